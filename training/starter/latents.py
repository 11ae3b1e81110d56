"""Encode the rendered set once, so that diffusion training never runs the VAE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from training.starter.common import save_checkpoint
from training.starter.models import FACTOR, LATENT_CHANNELS, RELEASE, Shape, make_vae


def to_images(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(n, h, w, 3) bytes to (n, 3, h, w) floats in [-1, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: NDArray[np.uint8], device: str = "cpu") -> torch.Tensor:
    """Posterior means of (n, h, w, 3) pictures: (n, 4, h / 8, w / 8)."""
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        moments = vae.quant_conv(vae.encoder(to_images(pixels).to(device)))
    return moments.float()[:, :LATENT_CHANNELS].cpu()


@torch.no_grad()
def normalise(vae: AutoencoderKL, sample: torch.Tensor) -> None:
    """Fold each latent channel's mean and deviation over ``sample`` into the 1 x 1 convolutions.

    Afterwards latents have mean 0 and deviation 1 channel by channel, which one
    ``scaling_factor`` can't give, and the pipeline's factor is simply 1.
    """
    mean = sample.mean(dim=(0, 2, 3)).to(vae.device)
    std = sample.std(dim=(0, 2, 3)).to(vae.device)
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:LATENT_CHANNELS] /= std[:, None, None, None]
    into.bias[:LATENT_CHANNELS] = (into.bias[:LATENT_CHANNELS] - mean) / std
    into.bias[LATENT_CHANNELS:] -= 2 * std.log()
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= std[None, :, None, None]
    vae.register_to_config(scaling_factor=1.0)


def load_vae(path: Path, device: str = "cpu", shape: Shape = RELEASE) -> AutoencoderKL:
    """The VAE of a ``train_vae`` checkpoint or of a normalised ``vae-final.pt``."""
    vae = make_vae(shape)
    vae.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["vae"])
    vae.register_to_config(scaling_factor=1.0)
    return vae.to(device).eval()


def encode_set(
    work: Path,
    pixels: NDArray[np.uint8],
    *,
    device: str = "cpu",
    chunk: int = 100,
    shape: Shape = RELEASE,
) -> NDArray[np.float16]:
    """The set's latents, memory-mapped, (n, 4, h / 8, w / 8); encoded where not yet there.

    The VAE is normalised first and kept as ``vae-final.pt``. A run that was cut off goes on at
    its last chunk, whose number is in ``latents.done``.
    """
    side = pixels.shape[1] // FACTOR
    extent = (len(pixels), LATENT_CHANNELS, side, side)
    target, final, done_file = (work / n for n in ("latents.f16", "vae-final.pt", "latents.done"))
    if not final.exists():
        vae = load_vae(work / "vae.pt", device, shape)
        step = max(1, len(pixels) // 1000)
        few = pixels[::step]
        parts = (few[at : at + chunk] for at in range(0, len(few), chunk))
        samples = [encode(vae, part, device) for part in parts]
        normalise(vae, torch.cat(samples))
        save_checkpoint(final, {"vae": vae.state_dict()})
    done = int(done_file.read_text()) if done_file.exists() else 0
    if done < len(pixels):
        vae = load_vae(final, device, shape)
        frame = 2 * LATENT_CHANNELS * side * side
        with target.open("r+b" if done else "wb") as out:
            out.seek(done * frame)
            for at in range(done, len(pixels), chunk):
                part = encode(vae, pixels[at : at + chunk], device).half()
                out.write(part.numpy().tobytes())
                out.flush()
                done_file.write_text(str(at + len(part)))
                if at % (10 * chunk) == 0:
                    print(f"encoded {at} of {len(pixels)}", flush=True)
    return np.memmap(target, np.float16, "r", shape=extent)
