"""The native API over real services and the memory adapters."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sfumato.api.app import create_app
from tests.integration.api.serving import Api, ask, context_of
from tests.support.parts import open_house


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with open_house() as house:
        app = create_app(context_of(house))
        async with ask(app) as http:
            yield Api(house, app, http)
