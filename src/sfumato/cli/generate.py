"""``sfumato generate``: from a prompt to files in one command, over the same path as any caller."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli import edit_options as flags
from sfumato.cli.edits import EditFlags, checked, many
from sfumato.cli.options import Data, Json, Key, Server, load_terminal
from sfumato.cli.output import describe_timings, print_json, print_json_line, printable
from sfumato.cli.previews import Preview, detected, previews
from sfumato.cli.progress import Display, display
from sfumato.core.errors import InvalidRequest
from sfumato.core.events import Event
from sfumato.core.request import GenerationRequest, OutputFormat

if TYPE_CHECKING:
    from sfumato.client import Generation


def generate(  # noqa: PLR0917 - typer calls it by name; the order is that of the help
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw.")],
    negative_prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What to steer away from.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A name from `sfumato models list`.")
    ] = None,
    width: Annotated[
        int | None, typer.Option("--width", "-W", help="Pixels, a multiple of 8.")
    ] = None,
    height: Annotated[
        int | None, typer.Option("--height", "-H", help="Pixels, a multiple of 8.")
    ] = None,
    num_inference_steps: Annotated[
        int | None,
        typer.Option("--num-inference-steps", "--steps", help="Denoising steps, 1 to 150."),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option("--guidance-scale", "--guidance", help="How closely to follow the prompt."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="0 to 2^64-1; the same seed gives the same pixels.")
    ] = None,
    num_images: Annotated[
        int | None, typer.Option("--num-images", "-n", help="How many pictures, 1 to 64.")
    ] = None,
    clip_skip: Annotated[
        int | None, typer.Option(help="Layer of the text encoder: 1 is the last, 2 the one before.")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="The noise solver, as euler_a.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="The noise levels it visits, as karras.")
    ] = None,
    output_format: Annotated[
        OutputFormat | None, typer.Option("--output-format", "--format", help="Of the files.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="-100 to 100; higher goes first.")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="A name from `sfumato runtimes list`.")
    ] = None,
    metadata: Annotated[
        str | None, typer.Option(metavar="JSON", help="An object of your own notes.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the files.")
    ] = Path(),
    init_image: flags.InitImage = None,
    strength: flags.Strength = None,
    mask: flags.Mask = None,
    mask_blur: flags.MaskBlur = None,
    mask_padding: flags.MaskPadding = None,
    fill: flags.MaskFill = None,
    only_masked: flags.OnlyMasked = False,
    invert_mask: flags.InvertMask = False,
    outpaint: flags.Outpaint = None,
    hires: flags.HiresScale = None,
    hires_upscaler: flags.HiresUpscaler = None,
    hires_strength: flags.HiresStrength = None,
    hires_steps: flags.HiresSteps = None,
    upscale: flags.Upscale = None,
    variation: flags.VariationOf = None,
    lora: flags.Loras = None,
    control: flags.Controls = None,
    vae: flags.Vae = None,
    determinism: flags.Exactness = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Show previews, where the terminal can; with --json, every event."
        ),
    ] = False,
    preview: Annotated[
        Preview | None,
        typer.Option(help="With --stream: how, where the terminal does not say what it can."),
    ] = None,
    server: Server = None,
    key: Key = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Draw pictures from a prompt into files of the current folder; no file is overwritten.

    Takes the service at --server, else the one running on the data folder, else starts its own
    for as long as the command runs.
    """
    given = {
        "negative_prompt": negative_prompt,
        "model": model,
        "width": width,
        "height": height,
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "seed": seed,
        "num_images": num_images,
        "clip_skip": clip_skip,
        "sampler": sampler,
        "schedule": schedule,
        "output_format": output_format,
        "priority": priority,
        "runtime": runtime,
        "metadata": None if metadata is None else _parsed(metadata),
    }
    plain = {name: value for name, value in given.items() if value is not None}
    edits = EditFlags(
        init_image=init_image,
        strength=strength,
        mask=mask,
        mask_blur=mask_blur,
        mask_padding=mask_padding,
        fill=fill,
        only_masked=only_masked,
        invert_mask=invert_mask,
        outpaint=outpaint,
        hires=hires,
        hires_upscaler=hires_upscaler,
        hires_strength=hires_strength,
        hires_steps=hires_steps,
        upscale=upscale,
        variation=variation,
        lora=many(lora),
        control=many(control),
        vae=vae,
        determinism=determinism,
    ).options()
    # Checked here too, so that a mistake costs no start of a service.
    GenerationRequest(prompt=prompt, **{**plain, **checked(edits)})
    options = {**plain, **edits}
    if preview is not None and not stream:
        raise InvalidRequest("--preview needs --stream.", field="--preview", accepted="--stream")
    check_folder(out)
    from sfumato.cli.connection import Target  # noqa: PLC0415 - help needs none of it
    from sfumato.cli.drawing import draw  # noqa: PLC0415

    target = Target.of(server, key, data)
    with _shown(stream, preview, as_json=json) as shown:
        told = print_event if stream and json else None
        generation = draw(prompt, options, target=target, shown=shown, told=told, as_json=json)
    paths = _save(generation, prompt, out)
    _report(generation, paths, as_json=json, as_line=stream)


def _shown(
    stream: bool, preview: Preview | None, *, as_json: bool
) -> AbstractContextManager[Display]:
    """Where the progress goes: previews where they were asked for and can be seen."""
    if stream and sys.stderr.isatty():
        kind = preview or detected(load_terminal())
        if kind is not Preview.NONE:
            return previews(kind, sys.stderr)
    return display(as_json=as_json)


def check_folder(folder: Path) -> None:
    """Make it; find out now, not after the drawing, that it can't be written."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _parsed(text: str) -> Mapping[str, object]:
    import json  # noqa: PLC0415 - the name belongs to an option in this module

    with suppress(ValueError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    raise InvalidRequest(
        "--metadata is not a JSON object.", field="metadata", accepted="an object as '{\"a\": 1}'"
    )


def _save(generation: Generation, prompt: str, folder: Path) -> list[Path]:
    from sfumato.cli.naming import save_beside  # noqa: PLC0415

    try:
        return [save_beside(folder, prompt, image) for image in generation.images]
    except OSError:
        typer.secho(
            f"The pictures are not lost: job {generation.job.id} keeps them.",
            fg=typer.colors.YELLOW,
            err=True,
        )
        raise


def print_event(event: Event) -> None:
    """A line of JSON for a program."""
    known = {"event": event.kind.value, "number": event.number, "at": event.at}
    print_json_line({**known, **event.data})


def _report(
    generation: Generation, paths: list[Path], *, as_json: bool, as_line: bool = False
) -> None:
    """``as_line``: the last of many lines of JSON, rather than a document of its own."""
    job = generation.job
    if as_json:
        (print_json_line if as_line else print_json)(
            {
                **({"event": "saved"} if as_line else {}),
                "job": job.id,
                "images": [
                    {
                        "path": str(path),
                        "seed": image.seed,
                        "width": image.info.width,
                        "height": image.info.height,
                        "sha256": image.info.sha256,
                    }
                    for path, image in zip(paths, generation.images, strict=True)
                ],
                "seed": job.seed,
                "used": asdict(job.used),
                "timings": asdict(job.timings),
                "attempts": job.attempts,
                "notes": list(job.notes),
            }
        )
        return
    for path, image in zip(paths, generation.images, strict=True):
        typer.echo(f"{path}  seed {image.seed}")
    for note in job.notes:
        typer.secho(f"note: {printable(note)}", fg=typer.colors.YELLOW)
    typer.echo(describe_timings(job.timings))
