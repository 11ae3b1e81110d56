"""A job's webhook is kept before the job is made, so that no crash leaves one without the other's
being told."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sfumato.core.errors import SfumatoError
from sfumato.core.job import Job
from sfumato.core.ports import WebhookStore
from sfumato.core.webhooks import Telling, Webhook

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Announcement:
    """Of a job that is being made."""

    job_id: str
    made: bool = False

    def keep(self, kept: Job) -> None:
        """This job was made, or another had been before."""
        self.made = kept.id == self.job_id


@asynccontextmanager
async def announced(
    hooks: WebhookStore, job: Job, webhook: Webhook | None
) -> AsyncGenerator[Announcement]:
    """The block makes the job, and says so; without that its webhook is dropped.

    Where the block fails it stays: the job may have been made, and its answer alone been lost.
    One that has no job is dropped a day later.
    """
    announcement = Announcement(job.id)
    if webhook is None:
        yield announcement
        return
    await hooks.add(Telling(job.id, webhook, job.owner, job.created_at))
    yield announcement
    if not announcement.made:
        try:
            await hooks.remove(job.id)
        except SfumatoError as error:
            log.warning("the webhook of a job that was not made is left: %s", error)
