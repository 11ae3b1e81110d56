"""Which GPU a model needs."""

from __future__ import annotations

import pytest
import yaml

from sfumato.core.errors import InvalidRequest
from sfumato.core.planning import GPU_CLASSES, GpuClass, Plan, Weights, plan
from tests.unit.test_docs import ROOT

GIB = 1 << 30
#: Stable Diffusion XL's networks, in numbers.
SDXL = [
    Weights("text_encoder", "F16", 123_060_480, 2 * 123_060_480),
    Weights("text_encoder_2", "F16", 694_659_840, 2 * 694_659_840),
    Weights("unet", "F16", 2_567_463_684, 2 * 2_567_463_684),
    Weights("vae", "F32", 83_653_863, 4 * 83_653_863),
]


def xl(size: int = 1024, batch: int = 1, **more: object) -> Plan:
    return plan("photo", "sdxl", SDXL, width=size, height=size, batch=batch, **more)  # type: ignore[arg-type]


def test_a_plan_adds_up_as_it_is_documented() -> None:
    found = xl(batch=4)
    assert found.weights_total == 2 * sum(part.numbers for part in SDXL)
    assert found.stored["F32"] == 4 * 83_653_863
    assert found.step == 8 * 128 * 128 * 80_000
    assert found.decode == 4 * 1024 * 1024 * 6144
    assert found.needed == found.libraries + found.weights_total + found.decode
    assert found.whole is not None
    assert found.smallest is not None
    assert (found.whole.name, found.smallest.name) == ("a100-40", "h200 2g.35gb")


def test_weights_alone_may_ask_for_the_gpu() -> None:
    found = xl(size=64)
    assert found.needed == found.libraries + int(found.weights_total / 0.7)


def test_more_pictures_and_more_pixels_never_need_less() -> None:
    for size in (256, 512, 1024):
        needs = [xl(size, batch).needed for batch in (1, 2, 8)]
        assert needs == sorted(needs)
    for batch in (1, 8):
        needs = [xl(size, batch).needed for size in (256, 512, 1024)]
        assert needs == sorted(needs)
    assert xl(1024, 8).decode == xl(1024, 4).decode  # four at once, at most


def test_single_precision_takes_twice_as_much() -> None:
    half, whole = xl(), xl(bytes_per_number=4)
    assert whole.weights_total == 2 * half.weights_total
    assert (whole.step, whole.decode) == (2 * half.step, 2 * half.decode)


def test_a_class_that_just_fits_serves_and_one_byte_less_does_not() -> None:
    needed = xl().needed
    fits, short = GpuClass("fits", needed), GpuClass("short", needed - 1)
    share = GpuClass("share", needed, slices=2)
    assert xl(classes=[short, fits]).whole == fits
    assert xl(classes=[short]).whole is None
    found = xl(classes=[share, GpuClass("large", 2 * needed)])
    assert (found.whole, found.smallest) == (GpuClass("large", 2 * needed), share)


@pytest.mark.parametrize(
    ("size", "batch", "field"),
    [((1000, 1001), 1, "size"), ((0, 64), 1, "size"), ((64, 64), 0, "batch")],
)
def test_what_no_request_could_have_is_refused(
    size: tuple[int, int], batch: int, field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        plan("m", "sd1", SDXL, width=size[0], height=size[1], batch=batch)
    assert caught.value.field == field


def test_the_classes_are_those_of_the_chart() -> None:
    chart = yaml.safe_load((ROOT / "deploy/helm/sfumato/files/gpu-classes.yaml").read_text())
    whole = {gpu.name: gpu.memory for gpu in GPU_CLASSES if gpu.slices == 1}
    assert whole == {name: int(chart[name]["memory"] * GIB) for name in whole}
    for gpu in GPU_CLASSES:
        of = gpu.name.replace("/", " ").split()[0]
        assert gpu.slices == 1 or gpu.memory * gpu.slices <= whole[of] * 1.01
