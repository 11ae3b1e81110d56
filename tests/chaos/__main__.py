"""``python -m tests.chaos --setups sqlite,rabbitmq,sqs --jobs 1000 --workers 4 --seed 1``."""

from __future__ import annotations

import argparse
import asyncio
import functools
import signal
import sys

from scripts.servers import Missing
from tests.chaos.report import report
from tests.chaos.run import Order, Outcome, run
from tests.chaos.setups import SETUPS

_tell = functools.partial(print, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--setups", default=",".join(SETUPS), help="which, with commas between")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the folders with the logs")
    given = parser.parse_args()
    order = Order(jobs=given.jobs, workers=given.workers, seed=given.seed)
    # Whatever ends this, its processes must end too.
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    outcomes: list[Outcome] = []
    for name in given.setups.split(","):
        try:
            outcomes.append(asyncio.run(run(name, order, tell=_tell, keep=given.keep)))
        except Missing as reason:
            _tell(f"{name}: left out: {reason}")
    report(outcomes, _tell)
    return 0 if outcomes and all(outcome.clean for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
