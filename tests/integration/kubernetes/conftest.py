"""An API server, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sfumato.adapters.kubernetes import KubernetesApi
from tests.support.kubernetes import ApiServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path / "serviceaccount") as server:
        yield server


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi(server.url, server.credentials) as api:
        yield api
