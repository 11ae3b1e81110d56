"""The rest of what A1111's clients ask: its scripts, its memory, its switches, a picture's texts."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from sfumato.api.context import Context
from sfumato.api.dialects.a1111.generating import openapi_pictures, read
from sfumato.api.dialects.a1111.options import Loose
from sfumato.api.dialects.a1111.scripts import CONTROLNET
from sfumato.api.dialects.a1111.texts import PARAMETERS, parameters_of, texts_of
from sfumato.api.edits import Picture
from sfumato.api.inputs import read_picture

router = APIRouter(tags=["dialects"])


class PngInfoRequest(Loose):
    """A picture whose texts are asked for."""

    image: Picture = Field(description="The picture, in base64 or as a data URL.")


class PngInfo(BaseModel):
    info: str = Field(description="A1111's text; empty: there is none.")
    items: dict[str, str] = Field(description="The file's other texts.")
    parameters: dict[str, str] = Field(description="What the text says.")


class Memory(BaseModel):
    """Of the machine that answers. Pictures are drawn by workers, which may be elsewhere."""

    ram: dict[str, Any]
    cuda: dict[str, Any]


class Scripts(BaseModel):
    txt2img: list[str]
    img2img: list[str]


class ScriptInfo(BaseModel):
    name: str
    is_alwayson: bool
    is_img2img: bool
    args: list[dict[str, Any]]


@router.post("/sdapi/v1/png-info", openapi_extra=openapi_pictures(PngInfoRequest))
async def png_info(context: Context, request: Request) -> PngInfo:
    """The texts inside a picture's file: how it was made."""
    body = await read(request, PngInfoRequest)
    _, data = await read_picture(body.image, context.tracking, context.web, field="image")
    texts = await asyncio.to_thread(texts_of, data)
    info = texts.pop(PARAMETERS, "")
    return PngInfo(info=info, items=texts, parameters=parameters_of(info) if info else {})


@router.get("/sdapi/v1/memory")
async def memory(_context: Context) -> Memory:
    """The memory of the service's machine."""
    return Memory(
        ram=_ram(), cuda={"error": "workers draw, which may be elsewhere; see /v1/workers"}
    )


@router.get("/sdapi/v1/cmd-flags")
async def cmd_flags(_context: Context) -> dict[str, Any]:
    """Those of A1111's switches that say something here."""
    return {"api": True, "nowebui": True}


@router.get("/sdapi/v1/scripts")
async def scripts(_context: Context) -> Scripts:
    """ControlNet, in ``alwayson_scripts``."""
    return Scripts(txt2img=[CONTROLNET], img2img=[CONTROLNET])


@router.get("/sdapi/v1/script-info")
async def script_info(_context: Context) -> list[ScriptInfo]:
    """The same with what it takes: units, one after the other."""
    unit = {"label": "ControlNet unit", "value": {}}
    return [
        ScriptInfo(name=CONTROLNET, is_alwayson=True, is_img2img=of_picture, args=[unit])
        for of_picture in (False, True)
    ]


@router.post("/sdapi/v1/refresh-checkpoints")
@router.post("/sdapi/v1/refresh-vae")
@router.post("/sdapi/v1/refresh-loras")
@router.post("/sdapi/v1/refresh-embeddings")
async def refresh(context: Context) -> None:
    """Look anew which models there are."""
    await context.catalog.refresh()


@router.post("/sdapi/v1/unload-checkpoint")
@router.post("/sdapi/v1/reload-checkpoint")
async def loading(_context: Context) -> dict[str, Any]:
    """Without effect: workers load what jobs need, for everybody, and stop when nothing waits."""
    return {}


@router.get("/internal/ping")
async def ping() -> dict[str, Any]:
    """That somebody is there. No key is needed."""
    return {}


def _ram() -> dict[str, Any]:
    """In bytes."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = (os.sysconf(name) * page for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    except (ValueError, OSError):
        return {"error": "unavailable"}
    return {"free": free, "used": total - free, "total": total}
