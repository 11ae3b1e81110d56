"""A worker's side of a service elsewhere: everything over HTTPS, with a worker token.

A worker anywhere needs an outbound connection and a token; no broker, database or bucket key.
"""

from sfumato.adapters.remote.assignments import RemoteAssignments
from sfumato.adapters.remote.connection import Greeting, RemoteConnection
from sfumato.adapters.remote.models import RemoteModelUrls, latest_model, to_be_brought
from sfumato.adapters.remote.registry import RemoteWorkerRegistry

__all__ = [
    "Greeting",
    "RemoteAssignments",
    "RemoteConnection",
    "RemoteModelUrls",
    "RemoteWorkerRegistry",
    "latest_model",
    "to_be_brought",
]
