"""The examples of the reference do what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.service import ServiceProcess

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "client.md"


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = re.findall(r"```python\n(.*?)```", REFERENCE.read_text(), re.DOTALL)
    with ServiceProcess(tmp_path / "data") as service:
        monkeypatch.chdir(tmp_path)
        names: dict[str, object] = {}
        for example in examples:
            exec(example.replace("http://127.0.0.1:8080", service.url), names)  # noqa: S102
    assert {path.name for path in tmp_path.glob("*.png")} == {
        *("castle.png", "castles-1.png", "castles-2.png")
    }
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("7 ")
    assert told[-1] == "invalid_request guidance_scale"
