"""Train the VAE on the rendered set: ``python -m training.starter.train_vae --minutes 20``.

With ``--decoder-only`` it goes on from the normalised ``vae-final.pt`` and leaves the encoder as
it is: the latents a diffusion model was trained on stay valid while their pictures get sharper.
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

from training.starter.common import (
    Clock,
    Every,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    step_generator,
    training_parser,
)
from training.starter.latents import load_vae
from training.starter.models import RELEASE, SHAPES, Shape, make_vae
from training.starter.render import read_set

#: Per latent element. Far above Stable Diffusion's 1e-6: a smoother latent space costs a little
#: sharpness and makes the small diffusion network's work much easier.
KL_WEIGHT = 3e-4


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


def train_step(
    vae: AutoencoderKL, images: Tensor, rng: torch.Generator, *, autocast: bool
) -> tuple[Tensor, Tensor]:
    """(loss, pixel L1) of one batch; the posterior's noise comes from ``rng``."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
        moments = vae.quant_conv(vae.encoder(images)).float()
        mean, log_var = moments.chunk(2, dim=1)
        log_var = log_var.clamp(-30, 20)
        noise = torch.randn(mean.shape, generator=rng).to(mean.device)
        latents = mean + noise * (0.5 * log_var).exp()
        output = vae.decoder(vae.post_quant_conv(latents)).float()
    kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).mean()
    return reconstruction_loss(output, images) + KL_WEIGHT * kl, F.l1_loss(output, images).detach()


def train(
    pixels: NDArray[np.uint8],
    checkpoint: Path,
    clock: Clock,
    *,
    batch: int = 32,
    lr: float = 1e-3,
    crop: int = 64,
    seed: int = 0,
    device: str = "cpu",
    save_every: float = 60.0,
    autocast: bool = True,
    decoder_of: Path | None = None,
    shape: Shape = RELEASE,
) -> AutoencoderKL:
    """Train until ``clock`` says so, resuming from ``checkpoint`` where it exists.

    With ``decoder_of`` the weights start from that file and only the decoder learns.
    """
    torch.manual_seed(seed)
    vae = load_vae(decoder_of, device, shape) if decoder_of else make_vae(shape).to(device)
    vae.train()
    if decoder_of:
        vae.encoder.requires_grad_(requires_grad=False)
        vae.quant_conv.requires_grad_(requires_grad=False)
    weights = [p for p in vae.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.99), weight_decay=1e-4)
    state = load_checkpoint(checkpoint, device)
    if state:
        vae.load_state_dict(state["vae"])
        optimiser.load_state_dict(state["optimiser"])
        clock.load(state["clock"])

    def save() -> None:
        parts: dict[str, Any] = {"vae": vae.state_dict(), "optimiser": optimiser.state_dict()}
        save_checkpoint(checkpoint, parts | {"clock": clock.state()})

    save_due, log_due = Every(save_every), Every(20)
    while clock.runs:
        rng = step_generator(seed, clock.step)
        images = crops(pixels, batch, crop, rng).to(device)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(clock, lr, warmup=100)
        loss, l1 = train_step(vae, images, rng, autocast=autocast)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        clock.tick()
        if log_due():
            rate = clock.step * batch / clock.spent
            print(f"{clock.step} {clock.spent:.0f}s l1 {l1:.4f} {rate:.0f}/s", flush=True)
        if save_due():
            save()
    save()
    return vae


def main() -> None:
    parser = training_parser(__doc__)
    parser.set_defaults(batch=32)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--decoder-only", action="store_true", help="writes vae-tuned.pt")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    shape = SHAPES[args.shape]
    pixels, _ = read_set(args.work / "train", args.size or shape.size)
    train(
        pixels,
        args.work / ("vae-tuned.pt" if args.decoder_only else "vae.pt"),
        Clock(args.steps, args.minutes),
        batch=args.batch,
        lr=args.lr,
        crop=args.crop,
        seed=args.seed,
        device=args.device,
        save_every=args.save_every,
        decoder_of=args.work / "vae-final.pt" if args.decoder_only else None,
        shape=shape,
    )


if __name__ == "__main__":
    main()
