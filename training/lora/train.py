"""Train a LoRA from a folder of captioned pictures: ``python -m training.lora.train FOLDER``.

``--output`` is written at the end; a checkpoint beside it lets a run that was killed go on.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.utils import logging
from torch import Tensor, nn

from training.lora.adapters import attach, write_file
from training.lora.pictures import Pictures, read_pictures
from training.starter.codec import to_images
from training.starter.common import (
    Clock,
    Every,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
    step_generator,
)

STARTER = Path(__file__).parents[2] / "src" / "sfumato" / "weights" / "starter"
#: Steps with less noise than this signal-to-noise ratio count less (Hang et al., 2023).
SNR_CAP = 5.0
#: Share of the pictures that are shown without their caption, for guidance.
EMPTY = 0.1


@dataclass(frozen=True)
class Recipe:
    """How a LoRA is trained; the defaults suit the starter model and one new object."""

    rank: int = 16
    alpha: float = 16.0
    steps: int = 320
    batch: int = 8
    lr: float = 2e-3
    seed: int = 0
    convolutions: bool = True
    text_encoder: bool = True


class Subject:
    """A model in fp32 whose own weights stay as they are, with an adapter on each layer."""

    def __init__(self, folder: Path, recipe: Recipe, device: str = "cpu") -> None:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder, safety_checker=None, dtype=torch.float32, local_files_only=True
        )
        self.device = torch.device(device)
        self.unet, self.vae = pipeline.unet.to(device), pipeline.vae.to(device).eval()
        self.text_encoder = pipeline.text_encoder.to(device)
        self.tokenizer = pipeline.tokenizer
        schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.alphas: Tensor = schedule.alphas_cumprod
        self.predicts_velocity = schedule.config.prediction_type == "v_prediction"
        self.side = self.unet.config.sample_size * 2 ** (
            len(self.vae.config.block_out_channels) - 1
        )
        torch.manual_seed(recipe.seed)
        attached = attach(
            self.unet, "lora_unet_", recipe.rank, recipe.alpha, convolutions=recipe.convolutions
        )
        self.text_encoder.requires_grad_(requires_grad=False)
        if recipe.text_encoder:
            attached.update(
                attach(self.text_encoder, "lora_te_text_model_", recipe.rank, recipe.alpha)
            )
        self.adapters = attached.to(device)

    @torch.no_grad()
    def latents(self, pictures: Pictures, chunk: int = 16) -> Tensor:
        """(n, channels, side / 8, side / 8): each picture through the VAE, once for the whole run."""
        factor = self.vae.config.scaling_factor
        parts = [
            self.vae.encode(to_images(pictures.pixels[at : at + chunk]).to(self.device))
            for at in range(0, len(pictures.pixels), chunk)
        ]
        return torch.cat([part.latent_dist.mode() for part in parts]) * factor

    def ids(self, captions: Sequence[str]) -> Tensor:
        """(n, tokens), padded and cut to what the text encoder reads."""
        read = self.tokenizer(
            list(captions), padding="max_length", truncation=True, return_tensors="pt"
        )
        ids: Tensor = read["input_ids"].to(self.device)
        return ids

    def loss(self, clean: Tensor, ids: Tensor, rng: torch.Generator) -> Tensor:
        """The weighted error of one batch, of noise or velocity as the model predicts."""
        n = len(clean)
        # One step from each n-th of the schedule: the same expectation, less variance.
        places = (torch.arange(n) + torch.rand(n, generator=rng)) / n
        steps = (places * len(self.alphas)).long().clamp(max=len(self.alphas) - 1)
        noise = torch.randn(clean.shape, generator=rng).to(self.device)
        alpha = self.alphas[steps].to(self.device).view(-1, 1, 1, 1)
        signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()
        text = self.text_encoder(ids).last_hidden_state
        noisy = signal * clean + sigma * noise
        output = self.unet(noisy, steps.to(self.device), text, return_dict=False)[0]
        if not self.predicts_velocity:
            return (output - noise).square().mean()
        error = (output - (signal * noise - sigma * clean)).square().mean(dim=(1, 2, 3))
        # 1 - alpha is 1 / (snr + 1): weight is taken from the low-noise end alone.
        return (error * (SNR_CAP * (1 - alpha).flatten()).clamp(max=1.0)).mean()


def train(
    subject: Subject,
    pictures: Pictures,
    recipe: Recipe,
    checkpoint: Path,
    *,
    save_every: float = 30.0,
    report: Callable[[int, float], None] = lambda _step, _loss: None,
) -> list[float]:
    """Train the subject's adapters, resuming from ``checkpoint``; the loss of each step."""
    weights = list(subject.adapters.parameters())
    optimiser = torch.optim.AdamW(weights, lr=recipe.lr, betas=(0.9, 0.99), weight_decay=1e-3)
    clock, losses = Clock(recipe.steps), list[float]()
    state = load_checkpoint(checkpoint, str(subject.device))
    if state:
        subject.adapters.load_state_dict(state["adapters"])
        optimiser.load_state_dict(state["optimiser"])
        clock.load(state["clock"])
        losses = list(state["losses"])

    def save() -> None:
        parts: dict[str, Any] = {"adapters": subject.adapters.state_dict(), "losses": losses}
        parts |= {"optimiser": optimiser.state_dict(), "clock": clock.state()}
        save_checkpoint(checkpoint, parts)

    latents, empty = subject.latents(pictures), subject.ids([""])
    ids, save_due = subject.ids(pictures.captions), Every(save_every)
    while clock.progress < 1:
        rng = step_generator(recipe.seed, clock.step)
        which = torch.randint(len(latents), (recipe.batch,), generator=rng)
        unsaid = torch.rand(recipe.batch, 1, generator=rng) < EMPTY
        words = torch.where(unsaid.to(subject.device), empty, ids[which])
        set_learning_rate(optimiser, clock, recipe.lr, warmup=20)
        loss = subject.loss(latents[which], words, rng)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        clock.tick()
        losses.append(loss.item())
        report(clock.step, losses[-1])
        if save_due():
            save()
    save()
    return losses


def common_words(captions: Sequence[str]) -> Counter[str]:
    """How often each word is in the captions; the file tells it to those who use it."""
    return Counter(word for text in captions for word in re.findall(r"[^\W\d_]+", text.lower()))


def main() -> None:
    defaults = Recipe()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="pictures, each with a .txt beside it")
    parser.add_argument("--model", type=Path, default=STARTER, help="a folder of diffusers' layout")
    parser.add_argument("--output", type=Path, help="FOLDER.safetensors if left out")
    parser.add_argument("--rank", type=int, default=defaults.rank)
    parser.add_argument("--alpha", type=float, help="as the rank, if left out")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--batch", type=int, default=defaults.batch)
    parser.add_argument("--lr", type=float, default=defaults.lr)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--no-convolutions", action="store_true", help="enough for a style")
    parser.add_argument("--no-text-encoder", action="store_true")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    recipe = Recipe(
        args.rank,
        args.alpha or float(args.rank),
        args.steps,
        args.batch,
        args.lr,
        args.seed,
        convolutions=not args.no_convolutions,
        text_encoder=not args.no_text_encoder,
    )
    output = args.output or args.folder.with_suffix(".safetensors")
    subject = Subject(args.model, recipe, args.device)
    pictures = read_pictures(args.folder, subject.side)
    train(subject, pictures, recipe, output.with_suffix(".checkpoint"), report=progress())
    write_file(
        output, subject.adapters, title=output.stem, captions=common_words(pictures.captions)
    )
    print(f"{output}: {output.stat().st_size:,} bytes")


def progress() -> Callable[[int, float], None]:
    """Prints the mean loss of some seconds, now and then."""
    due, recent, began = Every(10), list[float](), time.monotonic()

    def report(step: int, loss: float) -> None:
        recent.append(loss)
        if due():
            mean, seconds = sum(recent) / len(recent), time.monotonic() - began
            print(f"step {step}, {seconds:.0f} s: loss {mean:.4f}", flush=True)
            recent.clear()

    return report


if __name__ == "__main__":
    main()
