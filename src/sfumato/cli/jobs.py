"""``sfumato jobs``: list, show and cancel the jobs of a running service."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.options import Data, Json, Key, Server
from sfumato.cli.output import describe_charge, describe_timings, print_json, print_table, printable
from sfumato.core.job import JobStatus

if TYPE_CHECKING:
    from sfumato.client import Job

app = typer.Typer(
    help="List, show and cancel jobs.",
    epilog="Example: sfumato jobs list --status running",
    no_args_is_help=True,
    rich_markup_mode=None,
)
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@app.command("list", epilog="Example: sfumato jobs list --status failed --limit 5")
def list_jobs(  # noqa: PLR0917 - typer calls it by name; the order is that of the help
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs in this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, newest first.")] = 20,
    server: Server = None,
    key: Key = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """List jobs, newest first."""
    from sfumato.cli.connection import open_client  # noqa: PLC0415 - httpx costs help its speed

    with open_client(server, key, data) as client:
        found = list(islice(client.jobs(status=status), limit))
    if json:
        print_json([job.model_dump(mode="json") for job in found])
        return
    rows = [
        (
            job.id,
            job.status.value,
            f"{job.created_at.astimezone():%Y-%m-%d %H:%M:%S}",
            job.model,
            f"{job.used.width}x{job.used.height}",
            str(job.seed),
            job.prompt,
        )
        for job in found
    ]
    print_table(("JOB", "STATUS", "CREATED", "MODEL", "SIZE", "SEED", "PROMPT"), rows)


@app.command(epilog="Example: sfumato jobs show 01k9zs6v7m3b8d0p1q2r3s4t5v")
def show(
    job_id: JobId, server: Server = None, key: Key = None, data: Data = None, json: Json = False
) -> None:
    """Show one job: what was asked, what was used, where the time went."""
    from sfumato.cli.connection import open_client  # noqa: PLC0415 - httpx costs help its speed

    with open_client(server, key, data) as client:
        _print_job(client.get(job_id), as_json=json)


@app.command(epilog="Example: sfumato jobs cancel 01k9zs6v7m3b8d0p1q2r3s4t5v")
def cancel(
    job_id: JobId, server: Server = None, key: Key = None, data: Data = None, json: Json = False
) -> None:
    """Take a job back: at once while it is queued, within one step while it runs."""
    from sfumato.cli.connection import open_client  # noqa: PLC0415 - httpx costs help its speed

    with open_client(server, key, data) as client:
        job = client.cancel(job_id)
    if json:
        print_json(job.model_dump(mode="json"))
    elif job.status is JobStatus.CANCELED:
        typer.echo(f"Job {job.id} is canceled.")
    else:
        typer.echo(f"Job {job.id} stops at its next step.")


def _print_job(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job.model_dump(mode="json"))
        return
    used, timings = job.used, job.timings
    facts = {
        "job": job.id,
        "status": job.status.value,
        "waiting": job.waiting,
        "error": f"{job.error.message} ({job.error.code})" if job.error else None,
        "prompt": job.prompt,
        "model": f"{job.model} on {job.runtime}",
        "size": f"{used.width}x{used.height}",
        "steps": f"{used.num_inference_steps} with {used.sampler}, guidance {used.guidance_scale:g}",
        "seed": str(job.seed),
        "attempts": str(job.attempts),
        "created": f"{job.created_at.astimezone():%Y-%m-%d %H:%M:%S}",
        "seconds": describe_timings(timings) if job.status is JobStatus.SUCCEEDED else None,
        "gpu": describe_charge(job.charge),
        "images": ", ".join(image.url for image in job.images) or None,
        "notes": "; ".join(job.notes) or None,
    }
    for name, value in facts.items():
        if value is not None:
            typer.echo(f"{name:<9} {printable(value)}")
