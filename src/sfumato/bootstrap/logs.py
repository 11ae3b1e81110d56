"""Logging of a service or worker process: one line a record, to standard error."""

from __future__ import annotations

import logging

from sfumato.settings import Settings


def configure_logging(settings: Settings) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s",
        force=True,
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("aiobotocore").setLevel(logging.WARNING)
    # It would log every URL, and a presigned one is a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
