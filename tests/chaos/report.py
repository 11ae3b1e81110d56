"""The outcome as a table, and as the one line of JSON that other programs read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from tests.chaos.run import Outcome

_COLUMNS = ("jobs", "lost", "doubled", "stuck", "failed_without_reason")
#: Findings that are printed of each set-up.
_MOST = 20


def report(outcomes: Sequence[Outcome], tell: Callable[[str], None] = print) -> None:
    for outcome in outcomes:
        _one(outcome, tell)
    tell("")
    tell("".join(f"{name:>12}" for name in ("set-up", *_COLUMNS[:-1], "no reason", "seconds")))
    for outcome in outcomes:
        cells = [outcome.name, *outcome.verdict.counts().values(), f"{outcome.seconds:.0f}"]
        tell("".join(f"{cell:>12}" for cell in cells))
    tell(json.dumps({outcome.name: outcome.verdict.counts() for outcome in outcomes}))


def _one(outcome: Outcome, tell: Callable[[str], None]) -> None:
    verdict = outcome.verdict
    tell(f"\n{outcome.name}")
    tell(f"  jobs: {_told(verdict.statuses)}; attempts: {_told(verdict.attempts)}")
    tell(f"  checkpoints left over: {verdict.checkpoints}")
    tell(f"  requests sent again: {outcome.retries}; processes started: {_told(outcome.starts)}")
    tell(f"  faults injected: {sum(outcome.faults.values())}")
    for name, count in outcome.faults.items():
        tell(f"  {count:5}  {name}")
    for reason, count in verdict.reasons.most_common():
        tell(f"  failed, {count} times: {reason}")
    for finding in [*outcome.refused[:_MOST], *verdict.findings[:_MOST]]:
        tell(f"  ! {finding}")
    for line in sorted(set(outcome.tracebacks))[:_MOST]:
        tell(f"  traceback in {line}")
    if any(status not in (0, None) for status in outcome.statuses.values()):
        tell(f"  exit statuses at the end: {_told(outcome.statuses)}")


def _told(counts: object) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(dict(counts).items()))  # type: ignore[call-overload]
