"""Where a worker elsewhere reads models from."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

from sfumato.adapters.remote.connection import RemoteConnection
from sfumato.core.errors import ModelUnusable
from sfumato.core.models import ModelFile, ModelInfo

#: Marks a model as one that must be brought here first.
REMOTE_SOURCE = "remote"


class RemoteModelUrls:
    """URLs of one model's files, asked for once and again when they have expired."""

    def __init__(self, connection: RemoteConnection, model: ModelInfo) -> None:
        self._connection = connection
        self._model = model
        self._urls: dict[str, str] = {}

    async def url_of(self, file: ModelFile, renew: bool) -> str:  # noqa: FBT001 - called by position
        """Raises ``ModelUnusable`` when the service no longer has the file."""
        if renew or file.path not in self._urls:
            answer = await self._connection.call("GET", _path(self._model))
            found = [] if answer is None else answer["files"]
            self._urls = {item["path"]: self._connection.resolved(item["url"]) for item in found}
        if file.path not in self._urls:
            raise ModelUnusable(f"The service no longer has {file.path} of {self._model.name!r}.")
        return self._urls[file.path]


def to_be_brought(model: ModelInfo) -> ModelInfo:
    """The model of a service elsewhere, before its files are here."""
    return replace(model, source=REMOTE_SOURCE) if model.files else model


async def latest_model(connection: RemoteConnection, model: ModelInfo) -> ModelInfo:
    """What the service says of the model's files by now."""
    answer = await connection.call("GET", _path(model))
    files = [] if answer is None else answer["files"]
    return replace(
        model,
        files=tuple(
            ModelFile(item["path"], item["size_bytes"], item["sha256"], item["version"])
            for item in files
        ),
    )


def _path(model: ModelInfo) -> str:
    return f"/models/{quote(model.name)}?kind={model.kind.value}"
