"""Attention that is told where to look, on a UNet of a few thousand numbers."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel

from training.starter.addressing import Addressing, region_tokens
from training.starter.models import LATENT_CHANNELS, MAX_TOKENS, TINY, make_unet

SIDE = TINY.size // 8


def asked(unet: UNet2DConditionModel) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, LATENT_CHANNELS, SIDE, SIDE, generator=rng)
    text = torch.randn(2, MAX_TOKENS, TINY.text_width, generator=rng)
    answer: torch.Tensor = unet(noisy, torch.tensor([3, 900]), text, return_dict=False)[0]
    return answer


def test_a_position_is_told_its_regions_token() -> None:
    tokens = region_tokens(64, 40).view(8, 8)
    assert tokens[0].tolist() == [24, 24, 25, 25, 26, 26, 27, 27]
    assert tokens[:, 0].tolist() == [24, 24, 28, 28, 32, 32, 36, 36]
    assert region_tokens(16, 40).flatten().tolist() == list(range(24, 40))
    assert region_tokens(1, 40).tolist() == [[24]]


def test_attention_computes_what_it_did_before() -> None:
    torch.manual_seed(0)
    unet = make_unet(TINY).eval()
    with torch.no_grad():
        before = asked(unet)
        Addressing(unet)
        torch.testing.assert_close(asked(unet), before, rtol=1e-4, atol=1e-5)


def test_the_loss_falls_as_attention_finds_its_tokens_and_asks_of_the_upper_blocks_alone() -> None:
    torch.manual_seed(0)
    unet = make_unet(TINY)
    addressing = Addressing(unet)
    optimiser = torch.optim.Adam(unet.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        asked(unet)
        loss = addressing.loss()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    told = {name for name, p in unet.named_parameters() if "attn2" in name and p.grad is not None}
    assert any(name.startswith("up_blocks") for name in told)
