"""Train the VAE on the rendered set: ``python -m training.starter.train_vae --minutes 20``.

Latents are given (:mod:`.codec`): the decoder learns to draw them, the encoder to find them. So this may
run before, beside or after the diffusion training, and longer for sharper pictures at any time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from training.starter.codec import Codec, codec_of
from training.starter.common import (
    Clock,
    Every,
    computes_in_half,
    load_checkpoint,
    quick_kernels,
    save_checkpoint,
    set_learning_rate,
    step_generator,
    training_parser,
)
from training.starter.models import FACTOR, RELEASE, SHAPES, Shape, make_vae
from training.starter.render import read_set

#: What the decoder's latents are off by at most, in deviations: diffusion never gives them exactly. What the
#: UNet leaves of noise, and where it is wrong about a whole area, the decoder then takes out.
_NOISE, _STAINS = 0.35, 0.25
#: The encoder's posterior is as good as certain.
_LOG_VARIANCE = -7.0
#: The encoder's work is the easier one; it takes every so manyth step.
_ENCODER_EVERY = 3


def crops(pixels: NDArray[np.uint8], count: int, size: int, rng: torch.Generator) -> Tensor:
    """``count`` random crops as (count, 3, size, size) in [-1, 1].

    The first half is taken around the lower middle, where objects stand: they are the smaller
    part of the pictures and the harder one.
    """
    span = pixels.shape[1] - size + 1
    which = torch.randint(len(pixels), (count,), generator=rng).tolist()
    corners = torch.randint(span, (count, 2), generator=rng)
    half = count // 2
    corners[:half, 0] = span // 2 + corners[:half, 0] // 2
    corners[:half, 1] = span // 4 + corners[:half, 1] // 2
    corners -= corners % FACTOR
    corner = corners.tolist()
    batch = np.stack(
        [pixels[i, y : y + size, x : x + size] for i, (y, x) in zip(which, corner, strict=True)]
    )
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 on pixels, on a half-size copy and on edges; flat art is edges and flat areas."""
    loss = F.l1_loss(output, target)
    loss = loss + 0.5 * F.l1_loss(F.avg_pool2d(output, 4), F.avg_pool2d(target, 4))
    for dim in (2, 3):
        loss = loss + 0.5 * F.l1_loss(output.diff(dim=dim), target.diff(dim=dim))
    return loss


def spoilt(latents: Tensor, rng: torch.Generator) -> Tensor:
    """``latents`` with noise and with stains of some cells' width, of another strength in each picture."""
    n, channels, high, wide = latents.shape
    grain = torch.randn(latents.shape, generator=rng)
    coarse = torch.randn((n, channels, -(-high // 3), -(-wide // 3)), generator=rng)
    stains = F.interpolate(coarse, (high, wide), mode="bilinear")
    much, many = torch.rand((2, n, 1, 1, 1), generator=rng)
    return latents + (_NOISE * much * grain + _STAINS * many * stains).to(latents.device)


def train_step(
    vae: AutoencoderKL,
    codec: Codec,
    images: Tensor,
    rng: torch.Generator,
    *,
    encoder: bool,
    half: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, pixel L1, latents' error) of one batch; ``encoder``: whether it learns as well."""
    latents = codec.encode(images)
    off = torch.zeros(())
    with quick_kernels(images.device.type, half=half):
        output = vae.decoder(vae.post_quant_conv(spoilt(latents, rng))).float()
        loss = reconstruction_loss(output, images)
        if encoder:
            mean, log_var = vae.quant_conv(vae.encoder(images)).float().chunk(2, dim=1)
            off = F.mse_loss(mean, latents)
            loss = loss + off + 0.01 * (log_var - _LOG_VARIANCE).square().mean()
    return loss, F.l1_loss(output, images).detach(), off.detach()


def train(
    pixels: NDArray[np.uint8],
    codec: Codec,
    checkpoint: Path,
    clock: Clock,
    *,
    batch: int = 16,
    lr: float = 1e-3,
    crop: int = 64,
    seed: int = 0,
    device: str = "cpu",
    save_every: float = 60.0,
    shape: Shape = RELEASE,
) -> AutoencoderKL:
    """Train until ``clock`` says so, resuming from ``checkpoint`` where it exists."""
    torch.manual_seed(seed)
    vae = make_vae(shape).to(device).train()
    weights = list(vae.parameters())
    optimiser = torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.99), weight_decay=1e-4)
    state = load_checkpoint(checkpoint, device)
    if state:
        vae.load_state_dict(state["vae"])
    # Weights that were handed over have no optimiser: their training begins anew.
    if state and "optimiser" in state:
        optimiser.load_state_dict(state["optimiser"])
        clock.load(state["clock"])

    def save() -> None:
        parts: dict[str, Any] = {"vae": vae.state_dict(), "optimiser": optimiser.state_dict()}
        save_checkpoint(checkpoint, parts | {"clock": clock.state()})

    save_due, log_due = Every(save_every), Every(20)
    half, off = computes_in_half(device), torch.zeros(())
    while clock.runs:
        rng = step_generator(seed, clock.step)
        images = crops(pixels, batch, crop, rng).to(device)
        set_learning_rate(optimiser, clock, lr, warmup=100)
        encoder = clock.step % _ENCODER_EVERY == 0
        loss, l1, gap = train_step(vae, codec, images, rng, encoder=encoder, half=half)
        off = gap if encoder else off
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        clock.tick()
        if log_due():
            rate = clock.step * batch / clock.spent
            print(
                f"{clock.step} {clock.spent:.0f}s l1 {l1:.4f} off {off:.4f} {rate:.0f}/s",
                flush=True,
            )
        if save_due():
            save()
    save()
    return vae


def main() -> None:
    parser = training_parser(__doc__)
    parser.set_defaults(batch=16)
    parser.add_argument("--crop", type=int, default=64)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    shape = SHAPES[args.shape]
    pixels, _ = read_set(args.work / "train", args.size or shape.size)
    train(
        pixels,
        codec_of(args.work, pixels),
        args.work / "vae.pt",
        Clock(args.steps, args.minutes),
        batch=args.batch,
        lr=args.lr,
        crop=args.crop,
        seed=args.seed,
        device=args.device,
        save_every=args.save_every,
        shape=shape,
    )


if __name__ == "__main__":
    main()
