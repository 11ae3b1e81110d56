"""Write a pipeline folder from checkpoints: ``python -m training.starter.export``.

The folder is diffusers' StableDiffusionPipeline layout with fp16 safetensors, and beside it
``sfumato.json``, the manifest the service reads.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from training.starter.art import CACHE
from training.starter.captions import vocabulary
from training.starter.common import load_checkpoint
from training.starter.latents import load_vae
from training.starter.models import NATIVE_SIZE, make_scheduler, make_vae
from training.starter.tokens import load_tokenizer, train_tokenizer
from training.starter.train import Denoiser, make_denoiser
from training.starter.world import OBJECTS, PLACES, TIMES

WEIGHTS = Path(__file__).parents[2] / "src" / "sfumato" / "weights" / "starter"

DEFAULTS = {
    "width": NATIVE_SIZE,
    "height": NATIVE_SIZE,
    "num_inference_steps": 12,
    "guidance_scale": 3.5,
    "sampler": "dpmpp_2m",
}


def load_parts(work: Path, *, averaged: bool = True) -> tuple[AutoencoderKL, Denoiser, Path]:
    """VAE, denoiser and tokenizer folder from ``work``; what is not trained yet is fresh."""
    folder = work / "tokenizer"
    has_words = (folder / "merges.txt").exists()
    tokenizer = load_tokenizer(folder) if has_words else train_tokenizer(folder)
    model = make_denoiser(tokenizer)
    state = load_checkpoint(work / "diffusion.pt")
    if state:
        model.load_state_dict(state["ema" if averaged else "model"])
        print(f"diffusion at step {int(state['clock']['step'])}")
    names = ("vae-tuned.pt", "vae-final.pt", "vae.pt")
    trained = [work / name for name in names if (work / name).exists()]
    vae = load_vae(trained[0]) if trained else make_vae()
    return vae.eval(), model.eval(), folder


def build_pipeline(vae: AutoencoderKL, model: Denoiser, words: Path) -> StableDiffusionPipeline:
    """The parts as one pipeline, fp32, without a safety checker: the world has nothing unsafe."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=load_tokenizer(words),
        unet=model.unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def manifest() -> dict[str, object]:
    """``sfumato.json``."""
    return {
        "name": "starter",
        "title": "Sfumato starter",
        "family": "sd",
        "description": (
            f"A tiny Stable Diffusion that draws flat landscapes: {len(PLACES)} kinds of place at "
            f"{len(TIMES)} times of day, with a hint of {len(OBJECTS)} kinds of object. It is there "
            "so that a fresh install draws something at once; it knows no other words."
        ),
        "license": "Apache-2.0",
        "sizes": [[NATIVE_SIZE, NATIVE_SIZE]],
        "defaults": DEFAULTS,
        "vocabulary": vocabulary(),
    }


def export(work: Path, target: Path, *, averaged: bool = True) -> None:
    """Write weights and configuration into ``target``; hand-written files there are kept."""
    vae, model, words = load_parts(work, averaged=averaged)
    pipeline = build_pipeline(vae, model, words)
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(target, max_shard_size="15MB")
    # The classic pair of files is what other loaders know; transformers reads it as well.
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(words / name, target / "tokenizer" / name)
    text = json.dumps(manifest(), indent=1, ensure_ascii=False)
    (target / "sfumato.json").write_text(text + "\n", encoding="utf-8")
    index = target / "model_index.json"
    parts = json.loads(index.read_text())
    # Local names only: where it was made is nobody's business.
    parts.pop("_name_or_path", None)
    index.write_text(json.dumps(parts, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=CACHE / "run")
    parser.add_argument("--target", type=Path, default=WEIGHTS)
    parser.add_argument("--live", action="store_true", help="the last weights, not their average")
    args = parser.parse_args()
    export(args.work, args.target, averaged=not args.live)
    total = 0
    for path in sorted(args.target.rglob("*")):
        if path.is_file():
            total += path.stat().st_size
            print(f"{path.stat().st_size:>10,} {path.relative_to(args.target)}")
    print(f"{total:>10,} bytes together")


if __name__ == "__main__":
    main()
