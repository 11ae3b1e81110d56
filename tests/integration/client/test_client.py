"""Both clients over a real socket: what they send, what they make of the answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from sfumato import AsyncClient, Client
from sfumato.client import (
    Conflict,
    EventKind,
    InvalidRequest,
    JobCanceled,
    JobFailed,
    JobStatus,
    NotFound,
    Overloaded,
    ServiceFailed,
    UnexpectedAnswer,
    Unreachable,
    WaitTimeout,
)
from tests.integration.client.scripted import (
    JOB_ID,
    PICTURE,
    STORY,
    Caller,
    Exchange,
    Service,
    event,
    job_json,
)


async def test_generate_draws_waits_and_fetches(
    service: Service, caller: Caller, tmp_path: Path
) -> None:
    generation = await caller.call("generate", "a castle", width=128, seed=2**64 - 1)

    assert json.loads(service.requests[0].body) == {
        "prompt": "a castle",
        "width": 128,
        "seed": 2**64 - 1,
    }
    assert generation.seed == 2**64 - 1
    assert generation.timings.denoising == 2.0
    assert generation.notes == ("starter does not know: zebra",)
    assert [image.data for image in generation.images] == [PICTURE]
    (path,) = generation.save(tmp_path / "castle")
    assert path == tmp_path / "castle.png"
    assert path.read_bytes() == PICTURE
    with pytest.raises(FileExistsError):
        generation.save(path)


async def test_a_job_that_failed_is_an_error_with_the_jobs_code(
    service: Service, caller: Caller
) -> None:
    error = {"code": "out_of_memory", "message": "The GPU is full."}
    service.script = [
        service.usual,
        lambda exchange: exchange.stream(event(1, "failed", **error)),
        lambda exchange: exchange.answer(200, job_json(status="failed", error=error, images=[])),
    ]
    with pytest.raises(JobFailed, match="The GPU is full") as caught:
        await caller.call("generate", "a castle")
    assert caught.value.code == "out_of_memory"
    assert caught.value.job.seed == 2**64 - 1


async def test_a_canceled_job_is_an_error_of_its_own(service: Service, caller: Caller) -> None:
    service.script = [
        service.usual,
        lambda exchange: exchange.stream(event(1, "canceled")),
        lambda exchange: exchange.answer(200, job_json(status="canceled", images=[])),
    ]
    with pytest.raises(JobCanceled):
        await caller.call("generate", "a castle")


async def test_a_job_is_read_whole(caller: Caller) -> None:
    job = await caller.call("get", JOB_ID)
    assert job.status is JobStatus.SUCCEEDED
    assert (job.finished_at - job.created_at).total_seconds() == 3.5
    assert job.used.sampler == "dpmpp_2m"
    assert job.prompt == "a castle"


async def test_an_id_cannot_reach_another_path(service: Service, caller: Caller) -> None:
    with pytest.raises(NotFound):
        await caller.call("get", "../models?x=")
    assert service.requests[0].path == "/v1/jobs/..%2Fmodels%3Fx%3D"


async def test_lists_go_on_to_the_next_page(service: Service, caller: Caller) -> None:
    service.script = [
        lambda exchange: exchange.answer(200, {"jobs": [job_json()] * 2, "next": "c/2"}),
        lambda exchange: exchange.answer(200, {"jobs": [job_json()], "next": None}),
    ]
    assert len(await caller.collect("jobs", status="succeeded")) == 3
    assert [request.path for request in service.requests] == [
        "/v1/jobs?limit=100&status=succeeded",
        "/v1/jobs?limit=100&status=succeeded&cursor=c%2F2",
    ]


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (404, NotFound),
        (409, Conflict),
        (413, InvalidRequest),
        (422, InvalidRequest),
        (500, ServiceFailed),
        (507, ServiceFailed),
    ],
)
async def test_a_problem_becomes_an_error_and_is_not_tried_again(
    service: Service, caller: Caller, status: int, kind: type[Exception]
) -> None:
    service.script = [
        lambda exchange: exchange.problem(
            status, "some_code", field="sampler", accepted=["euler", "ddim"]
        )
    ]
    with pytest.raises(kind, match="What is some_code") as caught:
        await caller.call("submit", "a castle")
    error = caught.value
    assert (
        vars(error).items()
        >= {
            "code": "some_code",
            "status": status,
            "field": "sampler",
            "accepted": ["euler", "ddim"],
        }.items()
    )
    assert len(service.requests) == 1


async def test_a_value_that_json_cannot_hold_is_named(service: Service, caller: Caller) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await caller.call("submit", "a castle", guidance_scale=float("nan"))
    assert caught.value.field == "guidance_scale"
    assert service.requests == []


@pytest.mark.parametrize("status", [200, 301, 404])
async def test_somebody_elses_server_is_recognised(
    service: Service, caller: Caller, status: int
) -> None:
    service.script = [lambda exchange: exchange.answer(status, b"<html>", "text/html")]
    with pytest.raises(UnexpectedAnswer, match="Is the address right"):
        await caller.call("models")


async def test_nobody_at_home_says_what_to_do() -> None:
    with (
        Client("http://127.0.0.1:1", retries=0) as client,
        pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:1.*refused.*sfumato serve"),
    ):
        client.models()


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("address", ["", "http://", "ftp://host", "host:port"])
def test_an_address_that_is_none_is_refused(
    client: type[Client | AsyncClient], address: str
) -> None:
    with pytest.raises(InvalidRequest, match="no address") as caught:
        client(address)
    assert caught.value.field == "base_url"


def test_an_address_may_leave_out_the_scheme(service: Service) -> None:
    with Client(service.url.removeprefix("http://")) as client:
        assert client.get(JOB_ID).id == JOB_ID


# -- trying again --------------------------------------------------------------------------------


async def test_a_submission_whose_answer_got_lost_is_sent_again_under_its_key(
    service: Service, caller: Caller
) -> None:
    service.script = [
        Exchange.drop,
        lambda exchange: exchange.problem(503, "store_busy", headers={"Retry_After": "0"}),
    ]
    job = await caller.call("submit", "a castle")
    assert job.waiting == "queued behind 3"
    keys = [request.headers["Idempotency-Key"] for request in service.requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1


async def test_two_submissions_have_two_keys(service: Service, caller: Caller) -> None:
    await caller.call("submit", "a castle")
    await caller.call("submit", "a castle")
    await caller.call("submit", "a castle", idempotency_key="mine")
    keys = [request.headers["Idempotency-Key"] for request in service.requests]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


async def test_a_proxy_that_cannot_reach_the_service_is_asked_again(
    service: Service, caller: Caller
) -> None:
    service.script = [lambda exchange: exchange.answer(502, b"<html>", "text/html")]
    assert (await caller.call("get", JOB_ID)).id == JOB_ID
    service.script = [lambda exchange: exchange.answer(503, b"<html>", "text/html")] * 3
    with pytest.raises(Overloaded, match="does not reach it"):
        await caller.call("get", JOB_ID)


async def test_patience_ends(service: Service, caller: Caller) -> None:
    service.script = [
        lambda exchange: exchange.problem(429, "overloaded", headers={"Retry_After": "0"})
    ] * 9
    with pytest.raises(Overloaded):
        await caller.call("submit", "a castle")
    assert len(service.requests) == 3


async def test_a_long_wait_is_left_to_the_caller(service: Service, caller: Caller) -> None:
    service.script = [
        lambda exchange: exchange.problem(429, "overloaded", headers={"Retry_After": "3600"})
    ]
    with pytest.raises(Overloaded) as caught:
        await caller.call("submit", "a castle")
    assert caught.value.retry_after == 3600
    assert len(service.requests) == 1


# -- events --------------------------------------------------------------------------------------


async def test_a_stream_ends_after_the_last_event(service: Service, caller: Caller) -> None:
    events = await caller.collect("stream", JOB_ID)
    assert [event.number for event in events] == [1, 2, 3, 4, 5]
    assert events[2].kind is EventKind.STEP
    assert events[2].data == {"step": 1, "steps": 2}
    assert len(service.requests) == 1


async def test_a_broken_stream_goes_on_where_it_broke(service: Service, caller: Caller) -> None:
    def break_in_the_middle(exchange: Exchange) -> None:
        exchange.begin_stream()
        exchange.wfile.write(STORY[0] + STORY[1] + STORY[2][:20])
        exchange.wfile.flush()
        exchange.drop()

    def stop_early(exchange: Exchange) -> None:
        exchange.stream(b": keep-alive\n\n", STORY[2])

    service.script = [break_in_the_middle, Exchange.drop, stop_early]
    events = await caller.collect("stream", JOB_ID)
    assert [event.number for event in events] == [1, 2, 3, 4, 5]
    asked = [request.headers["Last-Event-ID"] for request in service.requests]
    assert asked == ["0", "2", "2", "3"]


async def test_a_finished_job_has_nothing_more_to_tell(service: Service, caller: Caller) -> None:
    assert await caller.collect("stream", JOB_ID, after=5) == []


async def test_events_of_a_newer_service_are_left_out(service: Service, caller: Caller) -> None:
    service.script = [
        lambda exchange: exchange.stream(STORY[0], event(2, "admired"), event(3, "succeeded"))
    ]
    assert [event.number for event in await caller.collect("stream", JOB_ID)] == [1, 3]


async def test_a_service_that_is_gone_for_good_is_told(service: Service, caller: Caller) -> None:
    service.script = [lambda exchange: exchange.stream(STORY[0]), *[Exchange.drop] * 9]
    with pytest.raises(Unreachable, match="not lost"):
        await caller.collect("stream", JOB_ID)
    assert len(service.requests) == 1 + 2


async def test_the_events_of_no_job(service: Service, caller: Caller) -> None:
    service.script = [lambda exchange: exchange.problem(404, "not_found")]
    with pytest.raises(NotFound):
        await caller.collect("stream", JOB_ID)


async def test_waiting_has_an_end_though_the_stream_stays_open(
    service: Service, caller: Caller
) -> None:
    def hang(exchange: Exchange) -> None:
        exchange.begin_stream()
        while not service.over.wait(0.05):
            exchange.wfile.write(b": keep-alive\n\n")
            exchange.wfile.flush()

    service.script = [service.usual, hang]
    with pytest.raises(WaitTimeout, match=r"0\.3 seconds"):
        await caller.call("generate", "a castle", timeout=0.3)
    assert service.requests[-1].path.endswith("/cancel")


async def test_waiting_has_an_end_though_events_keep_coming(
    service: Service, caller: Caller
) -> None:
    def go_on(exchange: Exchange) -> None:
        exchange.begin_stream()
        number = 0
        while not service.over.wait(0.05):
            number += 1
            exchange.wfile.write(event(number, "step", step=number, steps=10**6))
            exchange.wfile.flush()

    service.script = [go_on]
    with pytest.raises(WaitTimeout):
        await caller.call("wait", JOB_ID, timeout=0.3)


async def test_a_cancelled_task_cancels_its_job(service: Service) -> None:
    streaming = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(exchange: Exchange) -> None:
        exchange.begin_stream()
        loop.call_soon_threadsafe(streaming.set)
        service.over.wait()

    service.script = [service.usual, hang]
    async with AsyncClient(service.url) as client:
        task = asyncio.create_task(client.generate("a castle"))
        await streaming.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert service.requests[-1].path.endswith("/cancel")


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Client(service.url) as client:
        assert client.get(JOB_ID).id == JOB_ID
    with httpx.Client(trust_env=True) as plain, pytest.raises(httpx.ConnectError):
        plain.get(service.url)
