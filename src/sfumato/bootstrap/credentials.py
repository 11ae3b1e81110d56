"""Secrets that were made elsewhere, as by a Helm chart, let in from the first start on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydantic import SecretStr

from sfumato.bootstrap.parts import Parts
from sfumato.bootstrap.remote_service import open_access
from sfumato.core.errors import InvalidRequest, StartupRefused
from sfumato.core.keys import ROLES, Scope
from sfumato.services.access import Access
from sfumato.settings import Settings

#: What they are called among the others.
_NAME = "bootstrap"


async def keep_credentials(settings: Settings, parts: Parts) -> None:
    """Keep the digests of those that the settings name; replicas may do it at once.

    Raises ``StartupRefused``, naming the setting, for one that could be guessed.
    """
    access = Access(keys=parts.keys, clock=parts.clock)
    workers = open_access(parts)

    async def keep_key(secret: str) -> None:
        await access.keep(secret, name=_NAME, scopes=ROLES["admin"])

    async def keep_scaling_key(secret: str) -> None:
        await access.keep(secret, name=f"{_NAME}-scaling", scopes=[Scope.SCALING])

    async def keep_token(secret: str) -> None:
        await workers.keep(secret, name=_NAME)

    await _keep("bootstrap_api_key", settings.bootstrap_api_key, keep_key)
    await _keep("bootstrap_scaling_key", settings.bootstrap_scaling_key, keep_scaling_key)
    await _keep("bootstrap_worker_token", settings.bootstrap_worker_token, keep_token)


async def _keep(
    setting: str, secret: SecretStr | None, keep: Callable[[str], Awaitable[None]]
) -> None:
    if secret is None:
        return
    try:
        await keep(secret.get_secret_value())
    except InvalidRequest as error:
        raise StartupRefused(
            f"The setting {setting} (variable SFUMATO_{setting.upper()}) is refused: "
            f"{error.message}",
            field=setting,
            accepted=error.accepted,
        ) from None
