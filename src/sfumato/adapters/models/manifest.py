"""The manifest of a published model: written last, it makes the model whole at one moment.

It names every file with size and SHA-256, so that a listing tells whether the model is there and
a worker can check what it copied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from sfumato.core.errors import ModelUnusable
from sfumato.core.models import ModelDefaults, ModelFile, ModelInfo, ModelKind, ModelLayout

MANIFEST = "sfumato-manifest.json"
_FORMAT = 1
_TEXTS = ("name", "family", "title", "description", "license")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A published model.

    Attributes:
        folder: where the files lie, below the manifest's own; empty: beside it.
    """

    model: ModelInfo
    folder: str = ""

    def encode(self) -> bytes:
        model = self.model
        content = {
            "format": _FORMAT,
            "folder": self.folder,
            "model": {
                **{key: getattr(model, key) for key in _TEXTS},
                "kind": model.kind,
                "layout": model.layout,
                "size_bytes": model.size_bytes,
                "memory_bytes": model.memory_bytes,
                "defaults": asdict(model.defaults),
                "sizes": model.sizes,
                "vocabulary": None if model.vocabulary is None else sorted(model.vocabulary),
                "attribution": model.attribution,
            },
            "files": [
                {"path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256}
                for file in model.files
            ],
        }
        return json.dumps(content, indent=1, ensure_ascii=False).encode()


def decode(data: bytes) -> Manifest:
    """Raises ``ModelUnusable``, saying what is wrong without naming the model."""
    try:
        content = json.loads(data)
        if content["format"] != _FORMAT:
            raise ModelUnusable(
                f"its {MANIFEST} has format {content['format']!r}, which this version of Sfumato "
                f"does not know; it knows {_FORMAT}."
            )
        folder = str(content["folder"])
        return Manifest(_model(content), folder=_safe(folder) if folder else "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnusable(f"its {MANIFEST} is broken: {type(error).__name__} {error}.") from None


def _model(content: Mapping[str, Any]) -> ModelInfo:
    told = content["model"]
    words = told["vocabulary"]
    return ModelInfo(
        name=str(told["name"]),
        family=str(told["family"]),
        title=str(told["title"]),
        description=str(told["description"]),
        license=str(told["license"]),
        # Manifests of before there were other kinds tell none.
        kind=ModelKind(told.get("kind", ModelKind.BASE)),
        layout=ModelLayout(told["layout"]),
        path="",
        size_bytes=int(told["size_bytes"]),
        memory_bytes=int(told["memory_bytes"]),
        defaults=ModelDefaults(**told["defaults"]),
        sizes=tuple((int(width), int(height)) for width, height in told["sizes"]),
        vocabulary=None if words is None else frozenset(words),
        attribution=tuple(map(str, told.get("attribution", ()))),
        files=tuple(
            ModelFile(_safe(file["path"]), int(file["size_bytes"]), str(file["sha256"]))
            for file in content["files"]
        ),
    )


def _safe(path: str) -> str:
    """A path that stays below the folder it is joined to."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError(f"the path {path!r} leads out of the model")
    return "/".join(parts)
