"""APIs over real services and the memory adapters: in-process, and over TCP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from sfumato.api.app import create_app
from tests.integration.api.serving import Api, ask, context_of, serving
from tests.support.parts import House, open_house


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with open_house() as house:
        app = create_app(context_of(house))
        async with ask(app) as http:
            yield Api(house, app, http)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Without a worker."""
    async with open_house() as opened:
        yield opened


@pytest.fixture
async def http(house: House) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the house's service, over TCP."""
    async with (
        serving(context_of(house)) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        yield client
