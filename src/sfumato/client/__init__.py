"""The Python client: typed, in one blocking and one asynchronous form.

    >>> from sfumato import Client
    >>> with Client("http://127.0.0.1:8080") as client:
    ...     client.generate("a castle at night", seed=7).save("castle.png")

It speaks the native API over HTTP and needs nothing of the service but its address. Each
request is in :mod:`sfumato.client.calls`, how it is settled in :mod:`sfumato.client.wire`; the two
clients only do the talking.
"""

from sfumato.client.blocking import Client
from sfumato.client.costs import CostTotal
from sfumato.client.errors import (
    ClientError,
    Conflict,
    Forbidden,
    InvalidRequest,
    JobCanceled,
    JobFailed,
    NotFound,
    Overloaded,
    ServiceFailed,
    Unauthorized,
    UnexpectedAnswer,
    Unreachable,
    WaitTimeout,
)
from sfumato.client.nonblocking import AsyncClient
from sfumato.client.offers import Catalogue, Model, Runtime, Scaling, Worker
from sfumato.client.options import RequestOptions
from sfumato.client.pictures import Picture
from sfumato.client.results import Generation, Image, ImageInfo, Job
from sfumato.client.webhooks import Delivery, WebhookReport
from sfumato.core.charges import Charge
from sfumato.core.events import Event, EventKind
from sfumato.core.job import JobStatus, Timings

__all__ = [
    "AsyncClient",
    "Catalogue",
    "Charge",
    "Client",
    "ClientError",
    "Conflict",
    "CostTotal",
    "Delivery",
    "Event",
    "EventKind",
    "Forbidden",
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
    "Scaling",
    "ServiceFailed",
    "Timings",
    "Unauthorized",
    "UnexpectedAnswer",
    "Unreachable",
    "WaitTimeout",
    "WebhookReport",
    "Worker",
]
