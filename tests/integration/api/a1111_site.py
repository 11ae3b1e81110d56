"""A service with a catalogue of every kind, and ``webuiapi`` as its client.

The package waits in the thread that calls it, so it gets one of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import webuiapi

from sfumato.core.job import Job
from sfumato.core.keys import ROLES
from sfumato.core.models import ModelFile, ModelInfo, ModelKind, ModelLayout
from sfumato.core.ports import Slot
from tests.integration.api.serving import context_of, serving
from tests.support.parts import MODEL, House, open_house

DIGEST = "0123456789abcdef" * 4


def beside(name: str, kind: ModelKind) -> ModelInfo:
    return replace(MODEL, name=name, kind=kind, vocabulary=None, family="")


MODELS = (
    MODEL,
    replace(
        MODEL,
        name="photo",
        layout=ModelLayout.CHECKPOINT,
        files=(ModelFile("photo.safetensors", 8, DIGEST),),
    ),
    beside("canny", ModelKind.CONTROLNET),
    beside("soft", ModelKind.VAE),
    beside("ink", ModelKind.LORA),
    beside("large", ModelKind.UPSCALER),
    beside("bad-hands", ModelKind.EMBEDDING),
)
#: ``alwayson_scripts`` is given wherever scripts are: the package keeps what it adds to its own
#: default from call to call.
SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 3, "sampler_name": "Euler a"}


class Gate:
    """Holds the engine after its first step until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self._steps = 0

    def __call__(self, _slots: Sequence[Slot]) -> None:
        self._steps += 1
        if self._steps > 1:
            self.reached.set()
            assert self.go_on.wait(30)


@dataclass
class Site:
    house: House
    url: str

    @contextlib.asynccontextmanager
    async def client(self, **login: str) -> AsyncIterator[webuiapi.WebUIApi]:
        base = f"{self.url}/sdapi/v1"
        # It asks for the scripts as soon as it is made.
        api = await asyncio.to_thread(webuiapi.WebUIApi, baseurl=base, **login)
        try:
            yield api
        finally:
            api.session.close()

    async def key(self, role: str = "user") -> dict[str, str]:
        """A login: the password is the key."""
        _, secret = await self.house.keys.create(name="me", scopes=ROLES[role])
        return {"username": "me", "password": secret}

    async def newest(self) -> Job:
        return (await self.house.tracking.list()).jobs[0]

    async def told_a_step(self) -> None:
        """Returns once a job has told of a step."""
        with self.house.watcher.subscribe_all(progress=True) as changed:
            while not await self._steps():
                await changed.wait()
                changed.clear()

    async def _steps(self) -> list[str]:
        jobs = (await self.house.tracking.list()).jobs
        return [kind for job in jobs for kind in await self.house.kinds(job) if kind == "step"]


@contextlib.asynccontextmanager
async def opened(*, key_required: bool = False) -> AsyncIterator[Site]:
    async with (
        open_house(*MODELS) as house,
        serving(context_of(house, key_required=key_required)) as url,
    ):
        yield Site(house, url)
