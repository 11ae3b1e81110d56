"""Two processes that train side by side, on a real process group."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import multiprocessing, nn

from training.starter.common import Clock
from training.starter.train import goes_on, share


def _process(rank: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2
    )
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.fill_(rank)
    apart = Clock(steps=100, step=3, spent=10.0 + rank)
    share(model, apart)
    before = model.weight.detach().clone(), apart.spent
    together = Clock(1, minutes=0.2, step=4, spent=10.0 + 10 * rank)
    share(model, together)
    torch.save(
        {"before": before, "after": (model.weight.detach(), together.spent)}, folder / f"{rank}.pt"
    )
    # Rank 1 alone would have ended: its own clock said 20 of 12 seconds.
    assert goes_on(together)
    dist.destroy_process_group()


def test_weights_and_time_are_shared_at_every_fourth_step(tmp_path: Path) -> None:
    multiprocessing.spawn(_process, (tmp_path,), nprocs=2)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        weight, spent = found["before"]
        assert (weight == rank).all()
        assert spent == 10 + rank
        weight, spent = found["after"]
        assert (weight == 0.5).all()
        assert spent == 10
    alone = Clock(1, minutes=0.2, step=3, spent=20.0)
    assert not goes_on(alone), "a lone process asks its clock at every step"
