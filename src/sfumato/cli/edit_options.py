"""The options of ``sfumato generate`` for pictures, edits and other weights."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato.core.edits import Fill
from sfumato.core.request import Determinism


def _edit(help_text: str, metavar: str | None = None) -> object:
    return typer.Option(metavar=metavar, help=help_text)


InitImage = Annotated[str | None, _edit("A picture to begin with; - reads standard input.", "FILE")]
Strength = Annotated[float | None, _edit("How much of it is drawn anew, above 0 to 1.")]
Mask = Annotated[str | None, _edit("A picture of its size: white is redrawn, black kept.", "FILE")]
MaskBlur = Annotated[int | None, _edit("Of the mask's edge, in pixels.")]
MaskPadding = Annotated[int | None, _edit("Pixels around the mask that --only-masked sees.")]
MaskFill = Annotated[Fill | None, _edit("What stands below the mask at the start.")]
OnlyMasked = Annotated[
    bool, typer.Option("--only-masked", help="Draw the masked part alone, at the full size.")
]
InvertMask = Annotated[
    bool, typer.Option("--invert-mask", help="Redraw what is black in the mask.")
]
Outpaint = Annotated[str | None, _edit("Pixels to add at the edges, as left=64,right=64.", "SIDES")]
HiresScale = Annotated[
    float | None,
    typer.Option(
        "--hires",
        metavar="SCALE",
        help="Enlarge by 1 to 8 and draw over it.",
    ),
]
HiresUpscaler = Annotated[str | None, _edit("latent, or the name of an upscaler.", "NAME")]
HiresStrength = Annotated[float | None, _edit("How much is drawn over, above 0 to 1.")]
HiresSteps = Annotated[int | None, _edit("Steps of the second pass.")]
Upscale = Annotated[
    str | None, _edit("Enlarge the finished picture, by 2 or as named.", "NAME[:SCALE]")
]
VariationOf = Annotated[
    str | None, _edit("Towards another seed's picture, as 7:0.2.", "SEED:STRENGTH")
]
Loras = Annotated[list[str] | None, _edit("A LoRA; may be repeated.", "NAME[:WEIGHT]")]
Controls = Annotated[
    list[str] | None,
    _edit("A ControlNet and its picture; may be repeated.", "MODEL=FILE[:STRENGTH[:START-END]]"),
]
Vae = Annotated[str | None, _edit("A VAE in place of the model's own.", "NAME")]
Exactness = Annotated[
    Determinism | None, _edit("strict: the same bytes in any company; fast: nearly.")
]
