"""Commands that run a part of the service in this process: serve, worker, doctor, version."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

import sfumato
from sfumato.cli.options import Data, Json, load_settings
from sfumato.cli.output import print_json, printable


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen at; 127.0.0.1 when left out.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 8080 when left out, 0 takes a free one.")
    ] = None,
    data: Data = None,
    exit_with_stdin: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run the service until Ctrl-C: the API, the page, and this machine's workers."""
    settings = load_settings(data, host=host, port=port)
    from sfumato.bootstrap.serve import serve as run  # noqa: PLC0415

    run(
        settings,
        announce=lambda url: typer.echo(f"Sfumato listens at {url}"),
        exit_with_stdin=exit_with_stdin,
    )


def worker(
    *,
    runtime: Annotated[str, typer.Option(help="The pool that it works for.")] = "default",
    name: Annotated[
        str | None, typer.Option(help="Shown in jobs and logs; made up when left out.")
    ] = None,
    idle_timeout: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help="Stop after so long without work; 0: never stop."
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Stop after one job, or at once when none waits.")
    ] = False,
    tasks: Annotated[
        bool,
        typer.Option("--tasks", help="Take requests of another system, from SFUMATO_TASKS_URL."),
    ] = False,
    connect: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Work for the service there, over HTTPS alone."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help="With --connect: a worker token. Others see it; SFUMATO_TOKEN hides it."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="With --connect: allow http:// to other machines.")
    ] = False,
    data: Data = None,
) -> None:
    """Run one worker: beside a service, on the same data folder or database, or elsewhere."""
    settings = load_settings(data, connect=connect, token=token)
    if settings.connect is not None:
        from sfumato.bootstrap.work_remote import work_elsewhere  # noqa: PLC0415

        work_elsewhere(
            settings,
            runtime=runtime,
            name=name,
            idle_timeout=idle_timeout,
            once=once,
            insecure=insecure,
        )
        return
    if tasks:
        from sfumato.bootstrap.work_tasks import work_on_tasks as work  # noqa: PLC0415
    else:
        from sfumato.bootstrap.work import work  # noqa: PLC0415

    work(settings, runtime=runtime, name=name, idle_timeout=idle_timeout, once=once)


def doctor(data: Data = None, json: Json = False) -> None:
    """Tell what is installed, which device would draw, what would run, and what is wrong.

    Exits with 1 when something is.
    """
    settings = load_settings(data)
    from sfumato.bootstrap.doctor import doctor as examine  # noqa: PLC0415

    findings = examine(settings)
    problems = [finding for finding in findings if finding.problem is not None]
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            typer.echo(f"{finding.name:<{width}}  {printable(finding.value)}")
            if finding.problem is not None:
                typer.secho(f"{'':<{width}}  {printable(finding.problem)}", fg=typer.colors.YELLOW)
    if problems:
        raise typer.Exit(1)


def version() -> None:
    """Print the version."""
    typer.echo(f"sfumato {sfumato.__version__}")
