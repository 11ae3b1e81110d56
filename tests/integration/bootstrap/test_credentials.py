"""First credentials from settings, and a start that waits for what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from sfumato.bootstrap.credentials import keep_credentials
from sfumato.bootstrap.parts import open_parts
from sfumato.bootstrap.remote_service import open_access
from sfumato.core.errors import StartupRefused, Unauthorized
from sfumato.core.keys import Scope
from sfumato.services.access import Access
from sfumato.settings import RuntimeSetting, Settings
from tests.support.service import ServiceProcess

KEY = "sfk_" + "k" * 43
SCALING_KEY = "sfk_" + "s" * 43
TOKEN = "sfw_" + "t" * 43


def settings_with(data: Path, **given: object) -> Settings:
    return Settings(data=data, **given)  # type: ignore[arg-type]


async def test_starts_again_and_again_keep_each_credential_once(tmp_path: Path) -> None:
    settings = settings_with(
        tmp_path,
        bootstrap_api_key=SecretStr(KEY),
        bootstrap_scaling_key=SecretStr(SCALING_KEY),
        bootstrap_worker_token=SecretStr(TOKEN),
    )
    for _ in range(2):
        async with open_parts(settings) as parts:
            await keep_credentials(settings, parts)
    async with open_parts(settings) as parts:
        access = Access(keys=parts.keys, clock=parts.clock)
        assert [key.name for key in await access.list()] == ["bootstrap", "bootstrap-scaling"]
        assert (await access.authenticate(KEY)).may(Scope.ADMIN)
        autoscaler = await access.authenticate(SCALING_KEY)
        assert [scope for scope in Scope if autoscaler.may(scope)] == [Scope.SCALING]
        (token,) = await open_access(parts).list()
        assert token.runtimes == ("default",)


async def test_a_later_start_adds_runtimes_but_gives_nothing_back(tmp_path: Path) -> None:
    first = settings_with(
        tmp_path, bootstrap_api_key=SecretStr(KEY), bootstrap_worker_token=SecretStr(TOKEN)
    )
    async with open_parts(first) as parts:
        await keep_credentials(first, parts)
        (key,) = await parts.keys.list()
        await parts.keys.revoke(key.id, now=parts.clock.now())
    later = settings_with(
        tmp_path,
        bootstrap_api_key=SecretStr(KEY),
        bootstrap_worker_token=SecretStr(TOKEN),
        runtimes=(RuntimeSetting(name="fast"), RuntimeSetting(name="large")),
    )
    async with open_parts(later) as parts:
        await keep_credentials(later, parts)
        await open_access(parts).authenticate(TOKEN, runtime="large")
        with pytest.raises(Unauthorized, match="revoked"):
            await Access(keys=parts.keys, clock=parts.clock).authenticate(KEY)


@pytest.mark.parametrize(
    ("setting", "secret"),
    [
        ("bootstrap_api_key", "sfk_letmein"),
        ("bootstrap_api_key", TOKEN),
        ("bootstrap_scaling_key", "hunter2" * 10),
        ("bootstrap_worker_token", TOKEN + " "),
    ],
)
async def test_what_could_be_guessed_is_refused_and_not_told(
    tmp_path: Path, setting: str, secret: str
) -> None:
    settings = settings_with(tmp_path, **{setting: SecretStr(secret)})
    async with open_parts(settings) as parts:
        with pytest.raises(StartupRefused) as refused:
            await keep_credentials(settings, parts)
        assert not await parts.keys.list()
        assert not await parts.tokens.list()
    assert refused.value.field == setting
    assert secret not in str(refused.value.as_dict())


def test_a_service_waits_for_its_database_then_lets_the_first_key_in(tmp_path: Path) -> None:
    later = tmp_path / "later"
    settings = {
        "database_url": f"sqlite:///{later}/sfumato.db",
        "start_timeout": 600,
        "require_key": True,
        "bootstrap_api_key": KEY,
        "bootstrap_scaling_key": SCALING_KEY,
    }
    service = ServiceProcess(tmp_path / "data", settings)
    service.wait_for("the start is tried again")
    later.mkdir()
    with service:

        def status(path: str, key: str) -> int:
            return service.http.get(path, headers={"x-api-key": key}).status_code

        assert status("/v1/jobs", KEY) == 200
        assert status("/v1/scaling/default", SCALING_KEY) == 200
        assert status("/v1/jobs", SCALING_KEY) != 200
        assert status("/v1/workers", SCALING_KEY) == 403
        assert KEY not in "".join(service.log)
        assert all(KEY not in str(each.environ()) for each in service.workers())
