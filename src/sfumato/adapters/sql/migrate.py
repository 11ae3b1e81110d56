"""Brings the schema up to date at start; two processes may start at once."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, text

from sfumato.adapters.sql.dialects import Dialect
from sfumato.core.errors import SchemaTooNew

#: The newest revision under ``migrations/versions``; a test holds the two together. Known here so
#: that a start-up with nothing to do need not load Alembic.
HEAD = "0005"


def migrate(engine: Engine, dialect: Dialect) -> None:
    """Upgrade to :data:`HEAD`, in one transaction that others wait for.

    Raises:
        SchemaTooNew: the database is at a revision that this version does not know.
    """
    with engine.connect() as connection, connection.begin():
        dialect.lock_schema(connection)
        revision = _revision(connection)
        if revision != HEAD:
            _upgrade(connection, revision)
            dialect.finish_schema(connection)


def _revision(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _upgrade(connection: Connection, revision: str | None) -> None:
    from alembic import command  # noqa: PLC0415 - only when there is something to do
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaTooNew(
            f"The database has schema {revision}; this version of Sfumato knows {HEAD} at most. "
            "Start the version that wrote it, or a newer one. Nothing was changed.",
            field="database_url",
        )
    command.upgrade(config, "head")
