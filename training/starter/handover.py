"""Weights that another machine, or another day, goes on with.

    python -m training.starter.handover write FOLDER     # what a run has learned so far
    python -m training.starter.handover read FOLDER      # a run that goes on with it

A pipeline folder lacks two things that training needs: the codec of the latents, and the layer that
reads the text encoder's plan. They are in a small file beside it.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from training.starter.art import CACHE
from training.starter.codec import Codec
from training.starter.common import save_checkpoint
from training.starter.export import export, load_parts
from training.starter.models import RELEASE, Shape
from training.starter.tokens import load_tokenizer
from training.starter.train import make_denoiser

TEACHING = "teaching.safetensors"
_READER = "reader."


def hand_over(work: Path, folder: Path, shape: Shape = RELEASE) -> None:
    """Write the pipeline of ``work`` and what training needs beside it into ``folder``."""
    export(work, folder, shape=shape)
    write_teaching(work, folder / TEACHING, shape)


def write_teaching(work: Path, path: Path, shape: Shape = RELEASE) -> None:
    """The codec and the reader of ``work``, the latter in half precision."""
    codec, (_, model, _) = Codec.load(work / "codec.pt"), load_parts(work, shape=shape)
    reader = model.planner.reader.state_dict()
    tensors = {name: part.contiguous() for name, part in codec.parts().items()}
    save_file(tensors | {_READER + name: part.half() for name, part in reader.items()}, path)


def adopt(folder: Path, work: Path, shape: Shape = RELEASE) -> None:
    """Prepare ``work`` to go on with a handover: words, latents, VAE and ``start.pt``."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, dtype=torch.float32, local_files_only=True
    )
    (work / "tokenizer").mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(folder / "tokenizer" / name, work / "tokenizer" / name)
    kept = load_file(folder / TEACHING)
    codec = {name: part for name, part in kept.items() if not name.startswith(_READER)}
    Codec(**codec).save(work / "codec.pt")
    save_checkpoint(work / "vae.pt", {"vae": pipeline.vae.state_dict()})
    model = make_denoiser(load_tokenizer(work / "tokenizer"), shape)
    model.unet.load_state_dict(pipeline.unet.state_dict())
    model.text_encoder.load_state_dict(pipeline.text_encoder.state_dict())
    reader = {n.removeprefix(_READER): p for n, p in kept.items() if n.startswith(_READER)}
    model.planner.reader.load_state_dict(reader)
    save_checkpoint(work / "start.pt", {"model": model.state_dict()})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("write", "read"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, default=CACHE / "run")
    args = parser.parse_args()
    if args.action == "write":
        hand_over(args.work, args.folder)
    else:
        adopt(args.folder, args.work)


if __name__ == "__main__":
    main()
