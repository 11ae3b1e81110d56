"""Fixtures: the scripted service, and each client talking to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from sfumato import AsyncClient, Client
from tests.integration.client.scripted import Caller, Exchange, ScriptedServer, Service
from tests.support.answering import Answering


@pytest.fixture(autouse=True)
def _no_config_of_ones_own(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the tests may have a service and a key of his own; no command may meet them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


@pytest.fixture
def service() -> Iterator[Service]:
    server = ScriptedServer(("127.0.0.1", 0), Exchange)
    server.service = Service(f"http://127.0.0.1:{server.server_port}")
    with Answering(server):
        yield server.service
        server.service.over.set()


@pytest.fixture(params=["blocking", "nonblocking"])
async def caller(request: pytest.FixtureRequest, service: Service) -> AsyncIterator[Caller]:
    if request.param == "blocking":
        with Client(service.url, timeout=10, retries=2) as client:
            yield Caller(client)
    else:
        async with AsyncClient(service.url, timeout=10, retries=2) as aclient:
            yield Caller(aclient)
