"""What a process may still take of a GPU, the whole of it or a share."""

from __future__ import annotations

import pytest
import torch

from sfumato.engine.memory import available, keep_to_share, left, total

GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "reserved", "allocated", "share", "expected"),
    [
        pytest.param(24, 0, 0, 1.0, 24, id="an empty GPU"),
        pytest.param(14, 10, 6, 1.0, 18, id="what was let go counts as free"),
        pytest.param(24, 0, 0, 0.25, 6, id="a share of an empty GPU"),
        pytest.param(20, 4, 3, 0.25, 3, id="the share, less what is in use"),
        pytest.param(1, 4, 4, 0.25, 1, id="neighbours left less than the share"),
        pytest.param(16, 6, 6, 0.25, 0, id="the share is used up"),
        pytest.param(16, 8, 8, 0.25, 0, id="never less than nothing"),
    ],
)
def test_a_worker_counts_on_its_share_of_the_gpu(
    free: int, reserved: int, allocated: int, share: float, expected: int
) -> None:
    can_take = left(
        free=free * GIB,
        whole=24 * GIB,
        reserved=reserved * GIB,
        allocated=allocated * GIB,
        share=share,
    )
    assert can_take == expected * GIB


def test_a_processor_has_no_slices() -> None:
    device = torch.device("cpu")
    whole = total(device)
    keep_to_share(device, 0.5)
    assert total(device) == whole
    assert available(device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_share_of_a_real_gpu_is_kept() -> None:
    device = torch.device("cuda", 0)
    whole = total(device)
    assert whole is not None
    try:
        keep_to_share(device, 0.1)
        assert total(device) == int(whole * 0.1)
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(whole * 0.11), dtype=torch.uint8, device=device)
    finally:
        keep_to_share(device, 1.0)
