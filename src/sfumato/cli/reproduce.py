"""``sfumato reproduce``: draws a picture again from the recipe in its file, and compares."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.options import Data, Json, Key, Server
from sfumato.cli.output import print_json, printable
from sfumato.cli.progress import display
from sfumato.core.errors import InvalidRequest
from sfumato.core.inputs import InputImage
from sfumato.core.request import GenerationRequest

if TYPE_CHECKING:
    from sfumato.core.exactness import Verdict

#: Fields of a request that do not decide the pixels; the prompt goes apart.
_NOT_ASKED = ("prompt", "output_format", "priority", "runtime", "metadata", "num_images")


def reproduce(  # noqa: PLR0917 - typer calls it by name; the order is that of the help
    picture: Annotated[
        Path,
        typer.Argument(metavar="PICTURE", exists=True, dir_okay=False, help="A PNG of Sfumato's."),
    ],
    init_image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="What it began with."),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Of its inpainting."),
    ] = None,
    control_image: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Of a ControlNet; each."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Keep the new picture there.")
    ] = None,
    server: Server = None,
    key: Key = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Draw a picture again from the recipe inside its file, and compare the pixels.

    Ends with status 0 when they are the same, or as close as its determinism promises, and with 1
    when they are not.
    """
    from sfumato.bootstrap.comparing import compare, recipe_of  # noqa: PLC0415 - Pillow
    from sfumato.cli.connection import Target  # noqa: PLC0415
    from sfumato.cli.drawing import draw  # noqa: PLC0415 - what it needs takes a while
    from sfumato.core.exactness import Verdict  # noqa: PLC0415 - not for every command's start

    if out is not None and out.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))
    first = picture.read_bytes()
    recipe = recipe_of(first, name=picture.name)
    brought = [path for path in (init_image, mask, *(control_image or ())) if path is not None]
    files = {hashlib.sha256(found).hexdigest(): found for found in map(Path.read_bytes, brought)}
    options = _options(recipe.request(), files)
    target = Target.of(server, key, data)
    with display(as_json=json) as shown:
        (again,) = draw(recipe.prompt, options, target=target, shown=shown, as_json=json).images
    if out is not None:
        again.save(out)
    difference = compare(first, again.data, name=picture.name)
    verdict = Verdict.of(recipe, recipe_of(again.data, name="the new picture"), difference)
    _report(verdict, as_json=json)
    if not verdict.same:
        raise typer.Exit(1)


def _options(request: GenerationRequest, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The request's fields beside the prompt, as the client takes them.

    Args:
        files: the pictures that were given, by their SHA-256.

    Raises:
        InvalidRequest: the recipe names a picture that was not given.
    """
    fields = request.as_dict()
    options = {name: fields[name] for name in fields if name not in _NOT_ASKED and fields[name]}
    options["guidance_scale"], options["seed"] = request.guidance_scale, request.seed
    if request.init_image is not None:
        options["init_image"] = _file(request.init_image, files, "--init-image")
    if request.inpainting is not None:
        options["inpainting"]["mask"] = _file(request.inpainting.mask, files, "--mask")
    for control, option in zip(request.controls, options.get("controls", ()), strict=True):
        option["image"] = _file(control.image, files, "--control-image")
    return options


def _file(image: InputImage, files: Mapping[str, bytes], option: str) -> bytes:
    if image.sha256 not in files:
        raise InvalidRequest(
            f"The picture was drawn from another, of {image.width}x{image.height} pixels, that its "
            f"recipe knows by its digest alone. Give that very file with {option}.",
            field=option,
            accepted=f"the file whose SHA-256 is {image.sha256}",
        )
    return files[image.sha256]


def _report(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        difference = verdict.difference
        print_json(
            {
                "same": verdict.same,
                "determinism": verdict.determinism.value,
                "greatest": None if difference is None else difference.greatest,
                "share": None if difference is None else difference.share,
                "reasons": list(verdict.reasons),
            }
        )
        return
    typer.echo(str(verdict))
    if not verdict.same:
        for reason in verdict.reasons:
            typer.secho(f"note: {printable(reason)}", fg=typer.colors.YELLOW)
