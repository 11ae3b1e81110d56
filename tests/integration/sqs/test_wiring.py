"""``SFUMATO_QUEUE_URL=sqs://…``: found by bootstrap, examined by ``sfumato doctor``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sfumato.bootstrap.doctor import Finding, doctor
from sfumato.bootstrap.parts import SystemClock
from sfumato.bootstrap.queues import open_broker
from sfumato.core.errors import StartupRefused
from sfumato.settings import Settings


def _settings(tmp_path: Path, url: str, endpoint: str | None) -> Settings:
    return Settings(data=tmp_path, device="fake", queue_url=url, aws_endpoint=endpoint)


def _queue_finding(settings: Settings) -> Finding:
    (finding,) = (finding for finding in doctor(settings) if finding.name == "queue")
    return finding


def test_doctor_finds_that_it_answers(tmp_path: Path, sqs_url: str, aws_endpoint: str) -> None:
    finding = _queue_finding(_settings(tmp_path, sqs_url, aws_endpoint))
    assert finding == Finding("queue", "sqs://eu-west-1 answers")


def test_doctor_looks_at_both_ends_of_tasks(
    tmp_path: Path, sqs_url: str, aws_endpoint: str
) -> None:
    settings = Settings(
        data=tmp_path,
        device="fake",
        tasks_url=sqs_url,
        tasks_results_url=str(tmp_path / "results"),
        aws_endpoint=aws_endpoint,
    )
    (finding,) = (finding for finding in doctor(settings) if finding.name == "tasks")
    assert finding == Finding("tasks", "can be taken, and results stored")
    wrong = settings.model_copy(update={"tasks_topic_arn": "arn:aws:sns:eu-west-1:1:none"})
    (finding,) = (finding for finding in doctor(wrong) if finding.name == "tasks")
    assert "SFUMATO_TASKS_TOPIC_ARN" in (finding.problem or "")
    wrong = settings.model_copy(update={"tasks_url": "kafka://x/y"})
    (finding,) = (finding for finding in doctor(wrong) if finding.name == "tasks")
    assert "scheme 'kafka'" in (finding.problem or "")


def test_doctor_says_what_is_wrong(tmp_path: Path, aws_credentials: None) -> None:
    finding = _queue_finding(_settings(tmp_path, "sqs://utopia/x", None))
    assert finding.value == "unusable"
    assert "names no region" in (finding.problem or "")


async def test_without_the_package_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("sfumato.adapters.sqs")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiobotocore", None)
    monkeypatch.setitem(sys.modules, "aiobotocore.config", None)
    settings = _settings(tmp_path, "sqs://eu-west-1/x", None)
    with pytest.raises(StartupRefused, match=r"pip install 'sfumato\[aws\]'"):
        await open_broker(settings, "sqs://eu-west-1/x", SystemClock(), ["default"])
