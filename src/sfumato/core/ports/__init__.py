"""What the services and the worker need of the outside, as Protocols.

One contract suite a port stands in ``tests/contract``; every adapter inherits it. Methods never
read a clock: the caller passes ``now``, in seconds since the epoch, UTC. Every method that
writes job state is atomic, and every write by a worker names its fencing token: a stale token
changes nothing and answers False.
"""

from sfumato.core.ports.api_keys import ApiKeys
from sfumato.core.ports.assignments import Assignment, Assignments, Progress, Revocation
from sfumato.core.ports.clock import Clock
from sfumato.core.ports.cluster_view import ClusterView, PodState, WorkerPod
from sfumato.core.ports.cost_book import CostBook
from sfumato.core.ports.image_engine import DecodedImage, EncodedImage, ImageEngine, ImageTask, Slot
from sfumato.core.ports.image_store import ImageStore, StoredObject
from sfumato.core.ports.job_queue import (
    MAX_DELIVERIES,
    Delivery,
    JobQueue,
    QueueDepth,
    QueueTraits,
    Ring,
)
from sfumato.core.ports.job_store import (
    COUNTED_AHEAD,
    Change,
    JobCounts,
    JobPage,
    JobStore,
    Lease,
)
from sfumato.core.ports.measures import NO_MEASURES, ColdPhase, Measures
from sfumato.core.ports.model_catalog import ModelCatalog
from sfumato.core.ports.model_files import BytesProgress, ModelFiles
from sfumato.core.ports.model_reader import ModelReader
from sfumato.core.ports.scaling_signals import ScalingSignals
from sfumato.core.ports.spot_notices import SpotNotice, SpotNotices
from sfumato.core.ports.tasks import Task, TaskDelivery, TaskSink, TaskSource
from sfumato.core.ports.traces import NO_TRACES, Attributes, Span, SpanKind, Traces
from sfumato.core.ports.web_client import WebClient
from sfumato.core.ports.webhook_store import WebhookStore
from sfumato.core.ports.worker_pool import WorkerExit, WorkerPool
from sfumato.core.ports.worker_registry import (
    FORGOTTEN_AFTER,
    WorkerKind,
    WorkerRegistry,
    WorkerReport,
)
from sfumato.core.ports.worker_tokens import WorkerToken, WorkerTokens

__all__ = [
    "COUNTED_AHEAD",
    "FORGOTTEN_AFTER",
    "MAX_DELIVERIES",
    "NO_MEASURES",
    "NO_TRACES",
    "ApiKeys",
    "Assignment",
    "Assignments",
    "Attributes",
    "BytesProgress",
    "Change",
    "Clock",
    "ClusterView",
    "ColdPhase",
    "CostBook",
    "DecodedImage",
    "Delivery",
    "EncodedImage",
    "ImageEngine",
    "ImageStore",
    "ImageTask",
    "JobCounts",
    "JobPage",
    "JobQueue",
    "JobStore",
    "Lease",
    "Measures",
    "ModelCatalog",
    "ModelFiles",
    "ModelReader",
    "PodState",
    "Progress",
    "QueueDepth",
    "QueueTraits",
    "Revocation",
    "Ring",
    "ScalingSignals",
    "Slot",
    "Span",
    "SpanKind",
    "SpotNotice",
    "SpotNotices",
    "StoredObject",
    "Task",
    "TaskDelivery",
    "TaskSink",
    "TaskSource",
    "Traces",
    "WebClient",
    "WebhookStore",
    "WorkerExit",
    "WorkerKind",
    "WorkerPod",
    "WorkerPool",
    "WorkerRegistry",
    "WorkerReport",
    "WorkerToken",
    "WorkerTokens",
]
