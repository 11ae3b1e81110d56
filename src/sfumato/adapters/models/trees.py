"""The files of one model, read in the same way wherever they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from sfumato.core.checkpoints import SafetensorsHeader, read_header
from sfumato.core.models import ModelFile

#: Enough for the header of almost every file of weights, so that it costs one request.
_FIRST_READ = 256 << 10
#: Settings and sidecars are small; nothing larger is taken for one.
_MAX_JSON = 16 << 20


class Tree(Protocol):
    """A folder of files. Reading blocks: on an event loop it belongs into a thread."""

    @property
    def files(self) -> Mapping[str, ModelFile]:
        """By path below the folder."""
        ...

    def read(self, path: str, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` (excluded) of a file; fewer where it is shorter."""
        ...


class FolderTree:
    """Some files of a local folder."""

    def __init__(self, root: Path, paths: list[Path]) -> None:
        self._root = root
        names = {path.relative_to(root).as_posix(): path for path in paths}
        self.files = {name: ModelFile(name, path.stat().st_size) for name, path in names.items()}

    def read(self, path: str, start: int, end: int) -> bytes:
        with (self._root / path).open("rb") as stream:
            stream.seek(start)
            return stream.read(end - start)


def folder_tree(root: Path) -> FolderTree:
    """A model's folder and what lies directly below it, which is as deep as models go."""
    paths = [*root.iterdir(), *(path for folder in root.iterdir() for path in _inside(folder))]
    return FolderTree(root, [path for path in paths if path.is_file()])


def _inside(folder: Path) -> list[Path]:
    hidden = folder.name.startswith(".")
    return list(folder.iterdir()) if folder.is_dir() and not hidden else []


def read_text(tree: Tree, path: str) -> str:
    return tree.read(path, 0, min(tree.files[path].size_bytes, _MAX_JSON)).decode("utf-8")


def read_json(tree: Tree, path: str) -> dict[str, Any]:
    """Raises ``TypeError`` or ``ValueError`` for anything but an object."""
    content = json.loads(read_text(tree, path))
    if not isinstance(content, dict):
        raise TypeError(f"{path} is not a JSON object")
    return content


def read_header_of(tree: Tree, path: str) -> SafetensorsHeader:
    """The header of a file of weights, checked against the file's size.

    Raises ``ModelUnusable``, saying what is wrong without naming the file.
    """
    size = tree.files[path].size_bytes
    start = tree.read(path, 0, min(size, _FIRST_READ))
    end = min(size, 8 + int.from_bytes(start[:8], "little"))
    if len(start) >= 8 and len(start) < end <= 100 << 20:
        start += tree.read(path, len(start), end)
    return read_header(BytesIO(start), size)
