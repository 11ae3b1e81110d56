"""How much of a GPU's memory a model needs, and which class of GPU has that.

All of it is computed from the headers of the model's files; nothing is loaded. The weights are
exact. What pictures take beside them is the estimate that the engine itself begins with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sfumato.core.errors import InvalidRequest
from sfumato.core.models import LIBRARY_BYTES, decode_bytes
from sfumato.core.request import SIDE_MULTIPLE

#: Bytes of working memory of a row, for each latent cell of 8 × 8 pixels, in half precision: some
#: hundred and twenty activations as wide as Stable Diffusion's finest level, 320 channels.
ROW_BYTES_PER_CELL = 80_000
#: Of the memory that is free, how much a worker gives to weights, and to a step: the rest is for
#: what nobody has measured.
WEIGHTS_SHARE, STEP_SHARE = 0.7, 0.8
#: Pictures that a GPU decodes at once.
DECODED_TOGETHER = 4
#: Rows of a picture: with guidance it takes two.
ROWS_PER_PICTURE = 2

_GIB = 1 << 30
_HALF = 2


@dataclass(frozen=True, slots=True)
class Weights:
    """What a network's files hold of one type of number, as safetensors calls it."""

    network: str
    dtype: str
    numbers: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class GpuClass:
    """A GPU, a slice of one that hardware keeps apart (MIG), or a share of its time.

    Attributes:
        memory: bytes that one worker sees of it.
        slices: how many of these one GPU has; 1: it is whole.
    """

    name: str
    memory: int
    slices: int = 1


def _of(name: str, gibibytes: float, mig: Mapping[str, tuple[float, int]]) -> list[GpuClass]:
    whole = GpuClass(name, int(gibibytes * _GIB))
    shares = [GpuClass(f"{name}/{n}", whole.memory // n, n) for n in (2, 3, 4)]
    cut = [GpuClass(f"{name} {p}", int(size * _GIB), n) for p, (size, n) in mig.items()]
    return [whole, *shares, *cut]


#: GiB that a process sees, and of MIG's profiles, with how many of them a GPU has, by NVIDIA's guide.
_CLASSES: dict[str, tuple[float, Mapping[str, tuple[float, int]]]] = {
    "t4": (14.5, {}),
    "l4": (22.0, {}),
    "a10g": (22.0, {}),
    "a100-40": (39.4, {"1g.5gb": (4.75, 7), "2g.10gb": (9.75, 3), "3g.20gb": (19.6, 2)}),
    "l40s": (44.5, {}),
    "a100-80": (79.1, {"1g.10gb": (9.5, 7), "2g.20gb": (19.5, 3), "3g.40gb": (39.25, 2)}),
    "h100": (79.1, {"1g.10gb": (9.5, 7), "1g.20gb": (19.5, 4), "3g.40gb": (39.25, 2)}),
    "h200": (139.8, {"1g.18gb": (16.0, 7), "2g.35gb": (32.5, 3), "3g.71gb": (69.5, 2)}),
}
#: From the cheapest whole GPU to the dearest; ``l4/2`` is half of an L4's time and memory.
GPU_CLASSES: tuple[GpuClass, ...] = tuple(
    gpu for name, (size, mig) in _CLASSES.items() for gpu in _of(name, size, mig)
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker needs that draws so many pictures of one size together. Sizes are bytes.

    Attributes:
        weights: of each network, in the precision that it is computed in.
        stored: of each type of number, as the files hold them.
        step: working memory of a step, of ``rows`` rows.
        decode: of the pictures that are decoded at once.
        libraries: what the driver and its libraries take.
        needed: all of it, with what a worker leaves free.
        whole: the smallest whole GPU; None: no class has so much.
        smallest: the smallest part of one, or a whole one.
    """

    model: str
    width: int
    height: int
    batch: int
    rows: int
    weights: Mapping[str, int] = field(default_factory=dict)
    stored: Mapping[str, int] = field(default_factory=dict)
    step: int = 0
    decode: int = 0
    libraries: int = LIBRARY_BYTES
    needed: int = 0
    whole: GpuClass | None = None
    smallest: GpuClass | None = None

    @property
    def weights_total(self) -> int:
        return sum(self.weights.values())


def plan(
    model: str,
    family: str,
    weights: Sequence[Weights],
    *,
    width: int,
    height: int,
    batch: int = 1,
    bytes_per_number: int = _HALF,
    classes: Sequence[GpuClass] = GPU_CLASSES,
) -> Plan:
    """What a worker needs for the model.

    ``needed`` = libraries + max(weights / 0.7, weights + max(step / 0.8, decode)); a step takes 80,000
    bytes a row and latent cell, two rows a picture.

    Args:
        bytes_per_number: 2 as a GPU computes, 4 as a CPU does.

    Raises:
        InvalidRequest: a size or a batch that no request could have.
    """
    _check(width, height, batch)
    held: dict[str, int] = {}
    stored: dict[str, int] = {}
    for part in weights:
        held[part.network] = held.get(part.network, 0) + part.numbers * bytes_per_number
        stored[part.dtype] = stored.get(part.dtype, 0) + part.stored_bytes
    total, rows = sum(held.values()), ROWS_PER_PICTURE * batch
    cells = (width // SIDE_MULTIPLE) * (height // SIDE_MULTIPLE)
    step = rows * cells * ROW_BYTES_PER_CELL * bytes_per_number // _HALF
    pixels = width * height * min(batch, DECODED_TOGETHER)
    decode = decode_bytes(pixels, family) * bytes_per_number // _HALF
    needed = LIBRARY_BYTES + max(
        int(total / WEIGHTS_SHARE), total + max(int(step / STEP_SHARE), decode)
    )
    fitting = sorted((gpu for gpu in classes if gpu.memory >= needed), key=lambda gpu: gpu.memory)
    return Plan(
        model=model,
        width=width,
        height=height,
        batch=batch,
        rows=rows,
        weights=held,
        stored=stored,
        step=step,
        decode=decode,
        needed=needed,
        whole=next((gpu for gpu in fitting if gpu.slices == 1), None),
        smallest=next(iter(fitting), None),
    )


def _check(width: int, height: int, batch: int) -> None:
    if min(width, height) < SIDE_MULTIPLE or width % SIDE_MULTIPLE or height % SIDE_MULTIPLE:
        raise InvalidRequest(
            f"A picture can't be {width}x{height}.",
            field="size",
            accepted=f"two multiples of {SIDE_MULTIPLE}, as 1024x1024",
        )
    if batch < 1:
        raise InvalidRequest(
            f"A batch can't have {batch} pictures.", field="batch", accepted="1 or more"
        )
