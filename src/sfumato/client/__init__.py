"""The Python client: typed, in one blocking and one asynchronous form.

    >>> from sfumato import Client
    >>> with Client("http://127.0.0.1:8080") as client:
    ...     client.generate("a castle at night", seed=7).save("castle.png")

It speaks the native API over HTTP and needs nothing of the service but its address. What is told
over the wire and how is in :mod:`sfumato.client.wire`; the two clients only do the talking.
"""

from sfumato.client.blocking import Client
from sfumato.client.errors import (
    ClientError,
    Conflict,
    InvalidRequest,
    JobCanceled,
    JobFailed,
    NotFound,
    Overloaded,
    ServiceFailed,
    UnexpectedAnswer,
    Unreachable,
    WaitTimeout,
)
from sfumato.client.nonblocking import AsyncClient
from sfumato.client.options import RequestOptions
from sfumato.client.pictures import Picture
from sfumato.client.results import Generation, Image, ImageInfo, Job, Model, Runtime
from sfumato.core.events import Event, EventKind
from sfumato.core.job import JobStatus, Timings

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Conflict",
    "Event",
    "EventKind",
    "Generation",
    "Image",
    "ImageInfo",
    "InvalidRequest",
    "Job",
    "JobCanceled",
    "JobFailed",
    "JobStatus",
    "Model",
    "NotFound",
    "Overloaded",
    "Picture",
    "RequestOptions",
    "Runtime",
    "ServiceFailed",
    "Timings",
    "UnexpectedAnswer",
    "Unreachable",
    "WaitTimeout",
]
