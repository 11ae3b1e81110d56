"""Which workers there are, and how many there should be."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from sfumato.api.context import Context
from sfumato.api.schemas import PROBLEMS, Moment
from sfumato.core.keys import Scope
from sfumato.core.ports import WorkerKind

#: Seconds after which a worker that says nothing is no longer listed: three reports at the
#: default lease.
LISTED_SECONDS = 35.0

router = APIRouter(
    prefix="/v1",
    tags=["runtimes"],
    responses=PROBLEMS,
)


class WorkerView(BaseModel):
    """A worker that was heard of lately."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    runtime: str
    kind: WorkerKind = Field(description="local: beside the store; remote: over HTTPS.")
    device: str = Field(description="What it draws with.")
    models: list[str] = Field(description="The models that it holds in memory.")
    started_at: Moment
    seen_at: Moment


class WorkerList(BaseModel):
    workers: list[WorkerView]


class ScalingView(BaseModel):
    """What an autoscaler asks, as KEDA's metrics-api scaler."""

    queued: int
    running: int
    open: int = Field(description="Both together. With a worker a job, the workers to have.")
    desired: int = Field(description="Workers that the open jobs ask for.")
    oldest_seconds: float = Field(
        description="How long the oldest queued job has waited; 0 when none does."
    )


@router.get("/workers")
async def list_workers(context: Context) -> WorkerList:
    """Workers that were heard of in the last half minute, by name."""
    context.caller.check(Scope.READ_ALL)
    found = await context.workers.list(since=context.clock.now() - LISTED_SECONDS)
    return WorkerList(workers=[WorkerView.model_validate(report) for report in found])


@router.get("/scaling/{runtime}")
async def get_scaling(
    context: Context, runtime: Annotated[str, Path(max_length=200)]
) -> ScalingView:
    """How many jobs of a runtime are open, and how many workers they ask for."""
    if not context.caller.may(Scope.SCALING):
        context.caller.check(Scope.READ_ALL)
    signal = await context.scaling.of(runtime)
    return ScalingView(**asdict(signal), open=signal.open)
