"""Write the model card from the judge's numbers: ``python -m training.starter.card``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from training.starter.art import CACHE
from training.starter.common import load_checkpoint
from training.starter.export import WEIGHTS

CARD = """# The starter model

A tiny Stable Diffusion, {megabytes:.0f} MB, in diffusers' folder layout. It is in the package so that
a fresh install draws something at once, without a download and without a GPU. It is a toy with
a small closed world, trained from nothing on a CPU, and no substitute for a real model.

## What it was taught

- **Places**: {places}.
- **Times of day and weathers**: {times}.
- **Styles**: {styles}. **Colours** of objects: {colours}.
- **{count} objects**: {objects}.

`vocabulary` in `sfumato.json` lists every word its captions used, synonyms too. Pictures are flat
illustrations of {size} x {size} pixels with one object in the lower middle. "a fox in the snow at dawn",
"an astronaut on a beach at night" and "a castle in the mountains under a purple sky" are the kind of
prompt it does best.

## What it can't do

- Other words. They don't change the picture in any way that makes sense; a job names them.
- Photographs, faces, text, counting, two objects, who does what to whom.
- Variety of an object: it saw one drawing of each, in one size, so that few pictures would teach it.
- Plurals are in the vocabulary so that the page doesn't call them unknown, but captions only
  ever showed one of each thing.
- Words such as "beautiful", "large" and "cute" were in captions at random. They are harmless and do
  nothing.
- Other sizes than {size} x {size}: other requests are drawn at this size and resampled.

## How well prompts steer it

{n} pictures of combinations of place, time and object that training **never showed** (one in ten
is held out, by a hash), {steps} steps, guidance {guidance}, through diffusers' own pipeline
(`make judge-starter`). A small CNN trained on real renders names what it sees, at {side} pixels a side.

{table}

- **Retrieval**: of 100 pictures, a prompt's own is the one that the CNN finds likeliest.
- **Paraphrases**: sentences written by hand outside the grammar, {p[n]} of them about what it was
  taught: place {p[place]:.3f}, time {p[time]:.3f}, object {p[object]:.3f}.
- **Copying**: the nearest training render is {y[nearest]:.1f} away in the median (of 255, at 16 px); new
  renders lie {y[nearest_of_fresh_renders]:.1f} away. A model that copies lies nearer than those.
- **Diversity**: two pictures of one prompt are {d[one_prompt]:.0f} apart, of different prompts {d[many_prompts]:.0f}.

The first 64 of the pictures:

![Contact sheet](../../../../training/starter/contact-sheet.png)

The judge shares its renderer with the training data. It measures steering inside this world,
and neither beauty nor how the model would do on anything else. Time is not scored in space and
under water, where captions never name it. `judge.json` has the same numbers.

## How it was made

| part | size | training |
|---|---|---|
| latents, f8, 8 channels | - | principal components of 8 x 8 patches, not trained |
| CLIP text encoder, own BPE | {text:.1f} M | {text_time}: to say on its last 16 tokens what 4 x 4 regions look like |
| UNet, four levels | {unet:.1f} M | {pictures:,} picture views, {time}, the text encoder with it |
| VAE | {vae:.1f} M | {vae_time}: to draw the latents, and to find them |

Two shared CPU cores. v-prediction, zero terminal SNR, trailing timesteps,
DPM++ 2M. 10 % of the captions were empty, for guidance. `training/starter` holds the code and
the exact commands.

## Data and licences

All training pictures were composed by `training/starter/render.py`: backgrounds are drawn by
that program, objects are emoji art under MIT and some icons under CC BY 3.0 (see
`ATTRIBUTION.md`). No photograph, no scraped picture, no person's caption, no share-alike art
and no pretrained weights were used. The weights are under Apache-2.0 like the rest of Sfumato.
"""


def megaparams(state: dict[str, Any], prefix: str = "") -> float:
    """Millions of numbers in the tensors whose name starts with ``prefix``."""
    return sum(t.numel() for name, t in state.items() if name.startswith(prefix)) / 1e6


def table(report: dict[str, Any]) -> str:
    """Every figure beside its ceilings, control, chance and gate."""
    names = ("place", "time", "object", "retrieval", "paraphrases")
    rows = {
        "**generated, held-out combinations**": report,
        "ceiling: real held-out renders": report["ceiling_renders"],
        "ceiling: the same through the VAE": report["ceiling_vae"],
        "control: generated, shuffled prompts": report["control_shuffled"],
        "chance": report["chance"],
        "a release's gate": report["gates"],
    }
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for label, found in rows.items():
        cells = ("-" if found.get(name) is None else f"{found[name]:.3f}" for name in names)
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def card(work: Path, folder: Path, report: dict[str, Any]) -> str:
    """The card's text, from the checkpoints and the judge's report."""
    run, text, vae = (load_checkpoint(work / f"{name}.pt") for name in ("diffusion", "text", "vae"))
    if run is None or vae is None:
        raise FileNotFoundError(f"no finished run in {work}")
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
    manifest = json.loads((folder / "sfumato.json").read_text(encoding="utf-8"))
    world = manifest["world"]
    return CARD.format(
        **{key: report[key] for key in ("n", "steps", "guidance", "side")},
        size=manifest["defaults"]["width"],
        table=table(report),
        p=report["paraphrases_of"],
        y=report["copying"],
        d=report["diversity"],
        megabytes=size,
        places=", ".join(world["places"]),
        times=", ".join(world["times"]),
        styles=", ".join(world["styles"]),
        colours=", ".join(world["colours"]),
        count=len(world["objects"]),
        objects=", ".join(world["objects"]),
        vae=megaparams(vae["vae"]),
        vae_time=_time(vae),
        unet=megaparams(run["ema"], "unet."),
        text=megaparams(run["ema"], "planner.text_encoder."),
        text_time=_time(text),
        pictures=int(run["pictures"]),
        time=_time(run),
    )


def _time(state: dict[str, Any] | None) -> str:
    """How long a part was trained; what was handed over was trained elsewhere."""
    clock = (state or {}).get("clock")
    return f"{clock['spent'] / 60:.0f} minutes" if clock else "as handed over"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=CACHE / "run")
    parser.add_argument("--target", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    report = json.loads((args.target / "judge.json").read_text())
    text = card(args.work, args.target, report)
    (args.target / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
