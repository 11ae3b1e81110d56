"""A service, or a worker beside it, whose clock jumps: ``python -m tests.chaos.entry``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from sfumato.bootstrap.logs import configure_logging
from sfumato.bootstrap.parts import open_parts
from sfumato.bootstrap.serve import serve
from sfumato.bootstrap.work import run_beside_store, terms_of
from sfumato.core.errors import SfumatoError
from sfumato.settings import Settings
from tests.chaos.clock import JumpingClock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["service", "worker"])
    parser.add_argument("--clock", type=Path, required=True)
    parser.add_argument("--name")
    given = parser.parse_args()
    clock = JumpingClock(given.clock)
    try:
        settings = Settings.load()
        if given.role == "service":
            serve(settings, announce=print, clock=clock)
        else:
            asyncio.run(_work(settings, clock, given.name))
    except SfumatoError as error:
        sys.exit(f"The {given.role} does not start: {error.message}")


async def _work(settings: Settings, clock: JumpingClock, name: str) -> None:
    configure_logging(settings)
    terms = terms_of(settings, runtime="default", name=name, idle_timeout=0, once=False)
    async with open_parts(settings, clock=clock) as parts:
        await run_beside_store(settings, terms, parts)


if __name__ == "__main__":
    main()
