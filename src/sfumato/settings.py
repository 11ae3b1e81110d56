"""Every setting, and the only place that reads the environment.

Precedence: what the command line says, then ``SFUMATO_…`` variables, then the defaults here.
"""

from __future__ import annotations

import ipaddress
import json
import os
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Self

import platformdirs
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from sfumato.core.errors import StartupRefused
from sfumato.core.request import Determinism, Limits
from sfumato.core.safety import Safety, SafetyRule

_Port = Annotated[int, Field(ge=0, le=65535)]
_Seconds = Annotated[float, Field(gt=0)]
#: What the command line alone shows to others, what a service alone lets in, and a port that is this
#: process's own.
_NOT_FOR_CHILDREN = frozenset(
    (
        "server",
        "key",
        "internal_port",
        "scaler_port",
        "bootstrap_api_key",
        "bootstrap_scaling_key",
        "bootstrap_worker_token",
    )
)
_HttpUrl = Annotated[str, Field(pattern=r"^https?://[^/\s]+")]


class SpotNoticesOf(StrEnum):
    NONE = "none"
    AWS = "aws"
    GCP = "gcp"
    AZURE = "azure"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class TracesTo(StrEnum):
    NONE = "none"
    OTLP = "otlp"
    XRAY = "xray"


def _named(name: str, theirs: str, *, default: Any, repr: bool = True) -> Any:  # noqa: A002
    """A field that is also read from the variable in which another system has it."""
    names = AliasChoices(f"SFUMATO_{name.upper()}", theirs)
    return Field(default=default, validation_alias=names, repr=repr)


class RuntimeSetting(BaseModel):
    """One of ``Settings.runtimes``. What it leaves out is as in the settings of the same name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: As part of the names of queues and of Kubernetes' objects.
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    #: The models that it serves; empty: every one.
    models: tuple[str, ...] = ()
    max_workers: Annotated[int, Field(ge=0)] | None = None
    idle_timeout: _Seconds | None = None
    #: The class of GPU that its workers have, and what an hour of one costs, in ``currency``.
    gpu_class: Annotated[str, Field(max_length=64)] = ""
    gpu_hour_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class Settings(BaseSettings):
    """How this process runs. Times are seconds, sizes pixels."""

    model_config = SettingsConfigDict(
        env_prefix="SFUMATO_", extra="forbid", frozen=True, populate_by_name=True
    )

    #: Folder of the embedded database, pictures and models.
    data: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("sfumato")))
    host: str = "127.0.0.1"
    #: 0 takes a free port.
    port: _Port = 8080

    #: Port of probes and metrics, for the cluster alone; None: there is none.
    internal_port: _Port | None = None
    internal_host: str = "0.0.0.0"  # noqa: S104 - the kubelet and Prometheus come from elsewhere

    #: Port at which KEDA's external-push trigger is told of work, for the cluster alone; None: none.
    scaler_port: _Port | None = None

    #: Whether callers need a key; None: wherever ``host`` is not this machine alone.
    require_key: bool | None = None

    #: Whether addresses that callers name may be http beside https, and the private networks, as
    #: ["10.0.0.0/8"], in which they may lie all the same.
    web_plain_http: bool = False
    web_networks: tuple[IPv4Network | IPv6Network, ...] = ()

    #: Where jobs are kept: sqlite:///path or postgresql://…; None: ``sfumato.db`` in the data folder.
    database_url: str | None = Field(default=None, repr=False)
    #: The doorbell: amqp://… (RabbitMQ) or sqs://region/prefix (SNS + SQS); None: in the database.
    queue_url: str | None = Field(default=None, repr=False)
    #: Where pictures are kept: a folder, or s3://, gs://, az://, memory://; None: the data folder.
    images_url: str | None = None
    #: Where models are kept for every worker: a folder or a bucket; None: ``models`` in the data
    #: folder.
    models_url: str | None = None
    #: Folder into which workers copy models from a bucket; None: ``cache`` in the data folder.
    model_cache: Path | None = None
    #: Bytes that the copies may take; the least recently used go first.
    model_cache_bytes: Annotated[int, Field(ge=1)] = 100 << 30
    #: Another address than the cloud's own for buckets (S3) and for SNS and SQS, as MinIO's.
    s3_endpoint: _HttpUrl | None = None
    aws_endpoint: _HttpUrl | None = None
    #: Extra folders of models beside ``models`` in the data folder.
    model_folders: tuple[Path, ...] = ()
    #: The model of requests that name none.
    default_model: str = "starter"

    #: Requests of another system, for ``sfumato worker --tasks``: sqs://region/queue or amqp://…
    tasks_url: str | None = _named("tasks_url", "AMQP_URL", default=None, repr=False)
    #: Their queue in RabbitMQ.
    tasks_queue: str = _named("tasks_queue", "Q_NAME", default="tasks")
    #: Stop after one of them; as ``--once``.
    tasks_once: bool = _named("tasks_once", "EXIT_AFTER_ONE_TASK", default=False)
    #: A file that exists exactly while one of them is under way.
    tasks_flag_file: Path | None = _named("tasks_flag_file", "FLAG_FILE", default=None)
    #: Where their results go, by that system's own names; None: where pictures are kept.
    tasks_results_url: str | None = None
    #: SNS topic that is told of each result.
    tasks_topic_arn: str | None = None

    #: Tell it also when a worker begins to draw one.
    tasks_tell_running: bool = _named(
        "tasks_tell_running", "EXP_CALLBACK_WHEN_RUNNING", default=False
    )

    #: The pod that a worker is, which it marks as busy or idle; None: it is none, or does not.
    pod_name: str | None = None
    pod_namespace: str | None = None
    #: The namespace of the pods that workers are, in which a service looks why jobs wait; None: it
    #: does not look.
    cluster_namespace: str | None = None
    #: The API server, and the folder with the ``token`` and ``ca.crt`` of a service account.
    cluster_api: _HttpUrl = "https://kubernetes.default.svc"
    cluster_credentials: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    #: Whose notices a worker watches for that its spot machine is taken back.
    spot_notices: SpotNoticesOf = SpotNoticesOf.NONE
    #: Another address than the cloud's own for them.
    spot_endpoint: _HttpUrl | None = None

    #: A worker's service, when that is elsewhere, and the token that it lets the worker in with.
    connect: str | None = None
    token: SecretStr | None = None

    #: Secrets that were made elsewhere, to let in from the first start on: a key that may do
    #: everything, one that may read the scaling figures, and a worker token for every runtime.
    bootstrap_api_key: SecretStr | None = None
    bootstrap_scaling_key: SecretStr | None = None
    bootstrap_worker_token: SecretStr | None = None
    #: For how long a start is tried again while the database, the queue or the bucket refuses.
    start_timeout: Annotated[float, Field(ge=0)] = 0.0

    #: The service that the command line talks to, and the API key that it shows there.
    server: str | None = None
    key: SecretStr | None = None

    #: The pools of workers; empty: one, ``default``, which serves every model.
    runtimes: tuple[RuntimeSetting, ...] = ()
    #: Of the runtimes' prices, by ISO 4217.
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    lease: _Seconds = 30.0
    #: Seconds after which the doorbell of a job that still waits is rung again.
    ring_again_after: _Seconds = 120.0
    idle_timeout: _Seconds = 300.0
    #: What running jobs get to finish in when a worker is told to stop.
    grace: Annotated[float, Field(ge=0)] = 5.0
    #: Seconds that a worker's engine may be at one step, one load or one picture before the
    #: liveness probe takes it for stuck.
    stuck_after: _Seconds = 600.0
    max_workers: Annotated[int, Field(ge=0)] = 1
    #: Jobs that one worker holds at once.
    max_jobs: Annotated[int, Field(ge=1)] = 16
    #: Start one worker with the service, before any job waits.
    warm: bool = False
    #: Where workers draw: auto, cpu, cuda, cuda:1, mps. ``fake`` draws patterns, without torch.
    device: str = "auto"
    #: Bytes that the weights of all models in a worker's memory may take, the least recently used
    #: going first; None: what is free.
    model_memory_bytes: Annotated[int, Field(ge=1)] | None = None
    #: The share of a GPU's memory that a worker may take, weights and pictures together, where
    #: several workers share the GPU; None: all of it.
    gpu_memory_fraction: Annotated[float, Field(gt=0, le=1)] | None = None

    #: How exact pictures are whose requests don't say: fast or strict.
    determinism: Determinism = Determinism.FAST
    #: What becomes of pictures that a safety checker finds unsafe: off, nobody looks; flag, the job
    #: and the recipe say so; block, they are not delivered. None: flag, where there is a checker.
    safety: Safety | None = None
    #: A safety checker among the models, for every model; None: the one in each model's folder.
    safety_checker: str | None = None
    #: Answer a request that was drawn before with copies of its pictures.
    result_cache: bool = False
    max_side: Annotated[int, Field(ge=8)] = Limits().max_side
    max_pixel_steps: Annotated[int, Field(ge=1)] = Limits().max_pixel_steps
    max_result_side: Annotated[int, Field(ge=8)] = Limits().max_result_side
    max_queued: Annotated[int, Field(ge=1)] = 10_000
    #: Days for which finished jobs and their pictures are kept; None: for ever.
    retention_days: Annotated[float, Field(gt=0)] | None = None
    log_level: str = "INFO"
    #: One line of text a record, or one JSON object.
    log_format: LogFormat = LogFormat.TEXT
    #: Whether prompts may stand in the log, and the messages of exceptions, which may quote them.
    log_prompts: bool = False
    #: Where spans go: nowhere; by OTLP, to where the OTEL_… variables say; the same with X-Ray's ids
    #: and trace header.
    traces: TracesTo = TracesTo.NONE

    @field_validator("tasks_once", "tasks_flag_file", "tasks_tell_running", mode="before")
    @classmethod
    def _empty_is_off(cls, value: Any, info: ValidationInfo) -> Any:
        """Another system's manifests set a variable to nothing to switch it off."""
        if value != "":
            return value
        return None if info.field_name == "tasks_flag_file" else False

    @field_validator("runtimes", mode="after")
    @classmethod
    def _named_once(cls, runtimes: tuple[RuntimeSetting, ...]) -> tuple[RuntimeSetting, ...]:
        if len({runtime.name for runtime in runtimes}) < len(runtimes):
            raise ValueError("each runtime needs a name of its own")
        return runtimes

    @field_validator("data", mode="after")
    @classmethod
    def _expand(cls, folder: Path) -> Path:
        return folder.expanduser().absolute()

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Settings from the environment, with every override that is not None.

        Raises:
            StartupRefused: naming the setting, its variable and what it accepts.
        """
        try:
            return cls(**{key: value for key, value in overrides.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or "settings"
            name = name.lower().removeprefix("sfumato_")  # an alias is told as it stands
            raise StartupRefused(
                f"The setting {name} (variable SFUMATO_{name.upper()}) is "
                f"{first['input']!r}: {first['msg']}.",
                field=name,
            ) from None

    @property
    def safety_rule(self) -> SafetyRule:
        return SafetyRule(self.safety, self.safety_checker)

    @property
    def limits(self) -> Limits:
        return Limits(
            max_side=self.max_side,
            max_pixel_steps=self.max_pixel_steps,
            max_result_side=self.max_result_side,
        )

    @property
    def key_required(self) -> bool:
        if self.require_key is not None:
            return self.require_key
        return not _is_loopback(self.host)

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data / 'sfumato.db'}"

    @property
    def resolved_images_url(self) -> str:
        return self.images_url or str(self.data / "images")

    @property
    def resolved_tasks_results_url(self) -> str:
        return self.tasks_results_url or self.resolved_images_url

    @property
    def models_bucket(self) -> str | None:
        """URL of the bucket that models lie in; None: they lie in folders."""
        url = self.models_url or ""
        return url if "://" in url and not url.startswith("file://") else None

    @property
    def resolved_models_folder(self) -> Path:
        """Where models lie, unless in a bucket."""
        if self.models_url is None or self.models_bucket is not None:
            return self.data / "models"
        return Path(self.models_url.removeprefix("file://")).expanduser().absolute()

    @property
    def resolved_model_folders(self) -> tuple[Path, ...]:
        return (self.resolved_models_folder, *self.model_folders)

    @property
    def resolved_model_cache(self) -> Path:
        return (self.model_cache or self.data / "cache").expanduser().absolute()

    def for_child(self) -> dict[str, str]:
        """The environment of a child process that is to run with these very settings."""
        given = {
            f"SFUMATO_{name.upper()}": _as_variable(getattr(self, name))
            for name in self.model_fields_set - _NOT_FOR_CHILDREN - {"connect", "token"}
        }
        dropped = {f"SFUMATO_{name.upper()}" for name in _NOT_FOR_CHILDREN}
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        return {**kept, **given}


class TerminalVariables(BaseSettings):
    """What terminals say of themselves."""

    model_config = SettingsConfigDict(frozen=True)

    term: str = ""
    term_program: str = ""
    #: As ``term_program``, but it comes through ssh.
    lc_terminal: str = ""
    kitty_window_id: str = ""
    tmux: str = ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _as_variable(value: Any) -> str:
    if isinstance(value, tuple):
        return json.dumps(
            [item.model_dump() if isinstance(item, BaseModel) else str(item) for item in value]
        )
    return str(value)
