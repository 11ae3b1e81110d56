"""The database's schema, brought up to date ahead of the service."""

from __future__ import annotations

import asyncio

from sfumato.adapters.sql import Database
from sfumato.adapters.sql.migrate import HEAD
from sfumato.bootstrap.logs import configure_logging
from sfumato.bootstrap.starting import patiently
from sfumato.settings import Settings


def migrate_database(settings: Settings) -> str:
    """Upgrade the schema, while others wait or find it done.

    Returns:
        The schema's revision.

    Raises:
        SchemaTooNew: a later version of Sfumato has written this database.
        StartupRefused: it can't be reached, for the settings' ``start_timeout``.
    """
    configure_logging(settings)
    if settings.database_url is None:
        settings.data.mkdir(parents=True, exist_ok=True)
    asyncio.run(
        patiently(
            settings, lambda: asyncio.to_thread(Database.check, settings.resolved_database_url)
        )
    )
    return HEAD
