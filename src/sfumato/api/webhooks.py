"""A job's webhook over HTTP: what was told, telling again, and the secret to check it with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from sfumato.api.context import Context
from sfumato.api.schemas import PROBLEMS, JobView, Moment, job_path
from sfumato.core.events import Event
from sfumato.core.job import Job
from sfumato.core.webhooks import Telling, WebhookDelivery, WebhookEvent, WebhookState

router = APIRouter(
    prefix="/v1",
    tags=["webhooks"],
    responses=PROBLEMS,
)
_JobId = Annotated[str, Path(max_length=64)]


class DeliveryView(BaseModel):
    """One try to tell something."""

    number: int = Field(description="Of the job's event.")
    event: WebhookEvent
    at: Moment
    status: int | None = Field(description="Of the answer; null: there was none.")
    error: str | None = Field(description="Why there was none.")

    @classmethod
    def of(cls, delivery: WebhookDelivery) -> DeliveryView:
        return cls(
            number=delivery.number,
            event=delivery.event,
            at=delivery.at,
            status=delivery.status,
            error=delivery.error,
        )


class WebhookView(BaseModel):
    """How far a job's webhook is."""

    events: list[WebhookEvent]
    state: WebhookState = Field(
        description="open: there is or will be something to tell. done: the job's end was told. "
        "given_up: nobody took it for a day, or the server answered 410."
    )
    told_to: int = Field(description="Number of the last event that was told.")
    next_try_at: Moment | None = Field(description="null: at once, when there is something.")
    deliveries: list[DeliveryView] = Field(description="What was tried, newest first.")


class WebhookSecret(BaseModel):
    """What the caller's webhooks are signed with."""

    secret: str = Field(description="As the Standard Webhooks' libraries take it: whsec_….")


@router.get("/jobs/{job_id}/webhook")
async def get_webhook(context: Context, job_id: _JobId) -> WebhookView:
    """What was told of a job, and what was tried. The address is not repeated: it may be secret."""
    telling, deliveries = await context.tracking.webhook(job_id)
    return _view(telling, deliveries)


@router.post("/jobs/{job_id}/webhook/replay")
async def replay_webhook(
    context: Context,
    job_id: _JobId,
    after: Annotated[int, Query(ge=0, lt=2**31, description="Only events above this number.")] = 0,
) -> WebhookView:
    """Tell a job's events again, from the first or from one on."""
    telling, deliveries = await context.tracking.replay_webhook(job_id, after=after)
    return _view(telling, deliveries)


@router.get("/webhooks/secret")
async def get_webhook_secret(context: Context) -> WebhookSecret:
    """The secret of the caller's own webhooks; each key has another."""
    return WebhookSecret(secret=await context.tracking.webhook_secret())


def render_native(telling: Telling, job: Job, event: Event, told: WebhookEvent) -> dict[str, Any]:
    """The body that a webhook of the native API gets."""
    del telling
    data: Mapping[str, Any] = {
        name: value for name, value in event.data.items() if name != "preview"
    }
    if told is WebhookEvent.IMAGE:
        data = {**data, "url": f"{job_path(job.id)}/images/{event.data['index']}"}
    return {
        "type": f"job.{told.value}",
        "timestamp": datetime.fromtimestamp(event.at, UTC).isoformat(),
        "data": {**data, "job": JobView.of(job).model_dump(mode="json")},
    }


def _view(telling: Telling, deliveries: Sequence[WebhookDelivery]) -> WebhookView:
    return WebhookView(
        events=sorted(telling.webhook.events),
        state=telling.state,
        told_to=telling.after,
        next_try_at=telling.next_at or None,
        deliveries=[DeliveryView.of(delivery) for delivery in deliveries],
    )
