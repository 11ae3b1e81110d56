"""What the code asks of the API server: no more may a Role grant, and no less.

The tests hold both against it: the calls that an API server saw, and the Roles of the chart.
"""

from __future__ import annotations

from typing import NamedTuple


class Permission(NamedTuple):
    """A rule of a Role, of the core API group."""

    verb: str
    resource: str


#: A worker marks its own pod. A Role can't name a pod that does not exist yet, so it is every pod
#: of the namespace for which the chart has an admission policy see to the rest.
WORKER = frozenset((Permission("patch", "pods"),))
#: A service tells why a job waits.
SERVICE = frozenset((Permission("list", "pods"), Permission("list", "events")))
