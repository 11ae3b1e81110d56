"""Write a pipeline folder from checkpoints: ``python -m training.starter.export``.

The folder is diffusers' StableDiffusionPipeline layout with fp16 safetensors, and beside it
``sfumato.json``, the manifest the service reads.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from training.starter import attribution
from training.starter.art import CACHE
from training.starter.captions import vocabulary
from training.starter.common import load_checkpoint
from training.starter.models import RELEASE, SHAPES, Shape, make_scheduler, make_vae
from training.starter.render import sets_of
from training.starter.tokens import load_tokenizer, tokenizer_of
from training.starter.train import Denoiser, make_denoiser
from training.starter.world import WORLD

WEIGHTS = Path(__file__).parents[2] / "src" / "sfumato" / "weights" / "starter"


def load_parts(
    work: Path, *, averaged: bool = True, shape: Shape = RELEASE
) -> tuple[AutoencoderKL, Denoiser, Path]:
    """VAE, denoiser and tokenizer folder from ``work``; what is not trained yet is fresh."""
    folder = work / "tokenizer"
    model = make_denoiser(tokenizer_of(folder), shape)
    state = load_checkpoint(work / "diffusion.pt")
    if state:
        model.load_state_dict(state["ema" if averaged else "model"])
        print(f"diffusion at step {int(state['clock']['step'])}")
    vae, drawn = make_vae(shape), load_checkpoint(work / "vae.pt")
    if drawn:
        vae.load_state_dict(drawn["vae"])
    vae.register_to_config(scaling_factor=1.0)
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


def manifest(sets: Sequence[str], size: int) -> dict[str, object]:
    """``sfumato.json`` of a model that draws ``size`` pixels a side and learned from these sets."""
    return {
        "name": "starter",
        "title": "Sfumato starter",
        "family": "sd",
        "description": (
            f"A tiny Stable Diffusion that draws {len(WORLD.things)} kinds of object in "
            f"{len(WORLD.places)} kinds of place at {len(WORLD.times)} times of day and weathers, "
            f"in {len(WORLD.styles)} styles and {len(WORLD.colours)} colours. It is there so that "
            "a fresh install draws something at once; it knows no other words."
        ),
        "license": "Apache-2.0",
        "attribution": attribution.lines(sets),
        "sizes": [[size, size]],
        "defaults": {
            "width": size,
            "height": size,
            "num_inference_steps": 10,
            "guidance_scale": 3.0,
            "sampler": "dpmpp_2m",
        },
        "world": WORLD.classes(),
        "vocabulary": vocabulary(),
    }


def export(work: Path, target: Path, *, averaged: bool = True, shape: Shape = RELEASE) -> None:
    """Write weights, configuration and attributions into ``target``; other files are kept."""
    vae, model, words = load_parts(work, averaged=averaged, shape=shape)
    pipeline = build_pipeline(vae, model, words)
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(target, max_shard_size="15MB")
    # The classic pair of files is what other loaders know; transformers reads it as well.
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(words / name, target / "tokenizer" / name)
    sets = sets_of(work / "train")
    text = json.dumps(manifest(sets, shape.size), indent=1, ensure_ascii=False)
    (target / "sfumato.json").write_text(text + "\n", encoding="utf-8")
    (target / "ATTRIBUTION.md").write_text(attribution.document(sets), encoding="utf-8")
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
    parser.add_argument("--shape", choices=tuple(SHAPES), default="release")
    args = parser.parse_args()
    export(args.work, args.target, averaged=not args.live, shape=SHAPES[args.shape])
    total = 0
    for path in sorted(args.target.rglob("*")):
        if path.is_file():
            total += path.stat().st_size
            print(f"{path.stat().st_size:>10,} {path.relative_to(args.target)}")
    print(f"{total:>10,} bytes together")


if __name__ == "__main__":
    main()
