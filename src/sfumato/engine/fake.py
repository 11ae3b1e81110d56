"""An engine that draws a pattern instead of a picture: for system tests and work on the page.

It keeps the port's promises without torch, Pillow or a model: the pixels follow from the request
alone, a resumed slot ends with the same ones, and every step can be slowed, failed or stopped from
outside. Whatever format is asked for, it answers PNG.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sfumato.core.errors import EngineError, EngineFailure, OutOfMemory
from sfumato.core.models import ModelInfo
from sfumato.core.ports import DecodedImage, EncodedImage, ImageTask, Slot
from sfumato.core.recipe import Recipe, fingerprint

#: The pattern has this many cells a side; every picture's sides are multiples of it.
_CELLS = 8


@dataclass(slots=True)
class FakeSlot:
    """A slot whose "latents" are a digest, hashed once more at every step."""

    task: ImageTask
    digest: bytes
    step: int = 0
    notes: tuple[str, ...] = ()

    @property
    def batch_key(self) -> Hashable:
        settings = self.task.settings
        return settings.model, settings.render_width, settings.render_height

    @property
    def rows(self) -> int:
        return 2 if self.task.settings.guidance_scale > 1 else 1

    @property
    def cost(self) -> int:
        settings = self.task.settings
        return settings.render_width * settings.render_height * self.rows

    @property
    def steps(self) -> int:
        return self.task.settings.num_inference_steps


class FakeEngine:
    """Implements :class:`sfumato.core.ports.ImageEngine`.

    Args:
        before_step: called with the slots before each step; may wait, raise an ``EngineError``,
            or end the process.
        before_decode: the same, with one slot before it is decoded.
        before_encode: the same, with a picture before it is encoded, in whatever thread that is.
        broken_models: by model name, what :meth:`load` raises.
        rows: what :meth:`row_limit` answers.
        models: how many models fit into memory.
    """

    def __init__(
        self,
        *,
        before_step: Callable[[Sequence[Slot]], None] = lambda _slots: None,
        before_decode: Callable[[Slot], None] = lambda _slot: None,
        before_encode: Callable[[DecodedImage], None] = lambda _image: None,
        broken_models: Mapping[str, EngineError] | None = None,
        rows: int = 8,
        models: int = 8,
    ) -> None:
        self._before_step = before_step
        self._before_decode = before_decode
        self._before_encode = before_encode
        self._broken_models = dict(broken_models or {})
        self._rows = rows
        self._models = models
        #: The least recently used first.
        self._loaded: list[str] = []

    def load(self, model: ModelInfo, *, in_use: Collection[str] = ()) -> None:
        if model.name in self._loaded:
            self._loaded.remove(model.name)
        elif model.name in self._broken_models:
            raise self._broken_models[model.name]
        elif len(self._loaded) >= self._models:
            evicted = next((name for name in self._loaded if name not in in_use), None)
            if evicted is None:
                raise OutOfMemory(f"There is no room for {model.name!r}.")
            self._loaded.remove(evicted)
        self._loaded.append(model.name)

    def loaded(self) -> list[str]:
        return list(self._loaded)

    def make_room(self, *, in_use: Collection[str] = ()) -> bool:
        staying = [name for name in self._loaded if name in in_use]
        evicted, self._loaded = len(self._loaded) - len(staying), staying
        return evicted > 0

    def prepare(self, tasks: Sequence[ImageTask]) -> None:
        """Nothing here is faster for several."""

    def admit(self, task: ImageTask) -> FakeSlot:
        if task.model.name not in self._loaded:
            raise EngineFailure(f"The model {task.model.name!r} is not loaded.")
        return FakeSlot(task, bytes.fromhex(fingerprint(task)))

    def row_limit(self, batch_key: Hashable) -> int:
        del batch_key
        return self._rows

    def step(self, slots: Sequence[Slot]) -> None:
        if len({slot.batch_key for slot in slots}) > 1:
            raise EngineFailure("The slots of one step must have one batch key.")
        self._before_step(slots)
        for slot in map(_own, slots):
            if slot.step >= slot.steps:
                raise EngineFailure("A slot that is done can't take another step.")
            slot.digest = hashlib.sha256(slot.digest).digest()
            slot.step += 1

    def preview(self, slot: Slot) -> str:
        data = _png(_pixels(_own(slot).digest, _CELLS, _CELLS), _CELLS, _CELLS)
        return "data:image/png;base64," + base64.b64encode(data).decode()

    def decode(self, slots: Sequence[Slot]) -> Iterator[DecodedImage]:
        for slot in map(_own, slots):
            self._before_decode(slot)
            if slot.step < slot.steps:
                raise EngineFailure(f"The slot has done {slot.step} of {slot.steps} steps.")
            width, height = slot.task.settings.width, slot.task.settings.height
            pixels = _pixels(slot.digest, width, height)
            yield DecodedImage(slot.task, width, height, pixels, "fake", slot.notes)

    def encode(self, image: DecodedImage) -> EncodedImage:
        self._before_encode(image)
        recipe = Recipe.of(image.task, model_hash=image.model_hash, notes=image.notes)
        text = {"parameters": recipe.as_parameters(), "sfumato": recipe.as_json()}
        return EncodedImage(
            index=image.task.index,
            data=_png(image.pixels, image.width, image.height, text),
            media_type="image/png",
            width=image.width,
            height=image.height,
            seed=recipe.seed,
            recipe=recipe.as_dict(),
        )

    def export(self, slot: Slot) -> bytes:
        slot = _own(slot)
        state = {"task": fingerprint(slot.task), "step": slot.step, "digest": slot.digest.hex()}
        return json.dumps(state).encode()

    def resume(self, task: ImageTask, blob: bytes) -> FakeSlot:
        slot = self.admit(task)
        try:
            state = json.loads(blob)
            fits = state["task"] == fingerprint(task)
            slot.step, slot.digest = int(state["step"]), bytes.fromhex(state["digest"])
        except (ValueError, KeyError, TypeError):
            fits = False
        if not fits:
            raise EngineFailure("The checkpoint does not belong to this picture.")
        return slot


def _own(slot: Slot) -> FakeSlot:
    if not isinstance(slot, FakeSlot):
        raise EngineFailure(f"{type(slot).__name__} is not a slot of this engine.")
    return slot


def _pixels(digest: bytes, width: int, height: int) -> bytes:
    """8 × 8 flat cells whose colours follow from ``digest``. Sides: multiples of 8."""
    colours = hashlib.shake_256(digest).digest(3 * _CELLS * _CELLS)
    lines = []
    for row in range(_CELLS):
        cells = (colours[3 * (row * _CELLS + n) :][:3] for n in range(_CELLS))
        lines.append(b"".join(cell * (width // _CELLS) for cell in cells) * (height // _CELLS))
    return b"".join(lines)


def _png(pixels: bytes, width: int, height: int, text: Mapping[str, str] | None = None) -> bytes:
    lines = (b"\0" + pixels[3 * width * row :][: 3 * width] for row in range(height))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        *((b"iTXt", f"{key}\0\0\0\0\0{value}".encode()) for key, value in (text or {}).items()),
        (b"IDAT", zlib.compress(b"".join(lines))),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
