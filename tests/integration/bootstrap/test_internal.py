"""The port of probes and metrics: over TCP, whatever the process's own event loop does."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import httpx
import pytest

from sfumato.api.internal import Page
from sfumato.bootstrap.internal import serve_internally
from sfumato.core.errors import PortTaken
from sfumato.settings import Settings


def broken(_accept: str) -> Page:
    raise RuntimeError("no figures")


@pytest.fixture
def url(caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    pages = {
        "/metrics": lambda accept: Page(200, accept.encode(), "text/x-figures"),
        "/livez": lambda _accept: Page.of_text(503, "stuck"),
        "/broken": broken,
    }
    settings = Settings(internal_port=0, internal_host="127.0.0.1")
    with caplog.at_level(logging.INFO), serve_internally(settings, pages):
        yield f"http://127.0.0.1:{caplog.messages[-1].rsplit(' ', 1)[-1]}"


def test_pages_are_answered(url: str) -> None:
    figures = httpx.get(f"{url}/metrics?x=1", headers={"Accept": "application/openmetrics-text"})
    assert (figures.status_code, figures.text) == (200, "application/openmetrics-text")
    assert figures.headers["content-type"] == "text/x-figures"
    assert "server" not in figures.headers
    live = httpx.get(f"{url}/livez")
    assert (live.status_code, live.text) == (503, "stuck\n")
    head = httpx.head(f"{url}/livez")
    assert (head.status_code, head.headers["content-length"], head.content) == (503, "6", b"")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/", 404), ("POST", "/metrics", 405)],
)
def test_nothing_else_is(url: str, method: str, path: str, status: int) -> None:
    assert httpx.request(method, url + path).status_code == status


def test_a_page_that_breaks_takes_no_other_with_it(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert httpx.get(f"{url}/broken").status_code == 500
    assert "no figures" in caplog.text
    assert httpx.get(f"{url}/livez").status_code == 503


async def test_a_stuck_event_loop_is_told_of(url: str) -> None:
    answer = httpx.get(f"{url}/livez")  # noqa: ASYNC210 - nothing else runs on this loop meanwhile
    assert answer.status_code == 503


def test_a_port_that_is_taken_is_said_to_be(url: str) -> None:
    settings = Settings(internal_port=int(url.rsplit(":", 1)[1]), internal_host="127.0.0.1")
    with (
        pytest.raises(PortTaken, match="SFUMATO_INTERNAL_PORT") as caught,
        serve_internally(settings, {}),
    ):
        pass
    assert caught.value.field == "internal_port"


def test_without_a_port_there_is_none() -> None:
    with serve_internally(Settings(), {"/livez": broken}):
        pass


def test_it_ends_at_once(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(internal_port=0, internal_host="127.0.0.1")
    with caplog.at_level(logging.INFO), serve_internally(settings, {}):
        port = int(caplog.messages[-1].rsplit(" ", 1)[-1])
        before = time.monotonic()
    assert time.monotonic() - before < 5
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/livez")
