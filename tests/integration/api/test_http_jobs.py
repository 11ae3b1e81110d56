"""Jobs, their pictures and their events over the native API."""

from __future__ import annotations

import hashlib

import pytest

from tests.integration.api.serving import Api


async def test_jobs_come_newest_first_page_by_page(api: Api) -> None:
    ids = [(await api.house.submit()).id for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await api.http.get("/v1/jobs", params=query)).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next"]
    assert seen == ids[::-1]


async def test_jobs_are_filtered_by_status(api: Api) -> None:
    kept, taken_back = await api.house.submit(), await api.house.submit()
    await api.http.post(f"/v1/jobs/{taken_back.id}/cancel")
    page = (await api.http.get("/v1/jobs?status=queued")).json()
    assert [job["id"] for job in page["jobs"]] == [kept.id]


async def test_cancel_twice_is_harmless_and_a_finished_job_is_a_conflict(api: Api) -> None:
    job = await api.house.submit()
    for _ in range(2):
        response = await api.http.post(f"/v1/jobs/{job.id}/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "canceled")
    done = await api.draw()
    response = await api.http.post(done["links"]["cancel"])
    assert (response.status_code, response.json()["code"]) == (409, "job_finished")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/jobs/nope", 404, "not_found"),
        ("GET", "/v1/jobs/nope/events", 404, "not_found"),
        ("GET", "/v1/jobs/nope/images/0", 404, "not_found"),
        ("POST", "/v1/jobs/nope/cancel", 404, "not_found"),
        ("GET", "/v1/models/nope", 404, "not_found"),
        ("GET", "/v1/jobs?cursor=nope", 422, "invalid_request"),
        ("GET", "/v1/jobs?status=done", 422, "invalid_request"),
        ("GET", "/v1/jobs?limit=0", 422, "invalid_request"),
        ("GET", "/v1/jobs?limit=many", 422, "invalid_request"),
        ("GET", "/v1/nope", 404, "no_such_path"),
        ("GET", "/ui/../../pyproject.toml", 404, "no_such_path"),
        ("GET", "/ui/%2e%2e/__init__.py", 404, "no_such_path"),
        ("DELETE", "/v1/jobs", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_a_problem_too(
    api: Api, method: str, path: str, status: int, code: str
) -> None:
    response = await api.http.request(method, path)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_a_wrong_method_names_every_right_one(api: Api) -> None:
    assert (await api.http.delete("/v1/jobs")).headers["Allow"] == "GET, POST"


async def test_a_picture_is_cached_for_good(api: Api) -> None:
    job = await api.draw(seed=3)
    (image,) = job["images"]
    response = await api.http.get(image["url"])
    assert response.headers["Content-Type"] == "image/png"
    assert "immutable" in response.headers["Cache-Control"]
    assert response.headers["Content-Disposition"] == f'inline; filename="{job["id"]}-0.png"'
    assert hashlib.sha256(response.content).hexdigest() == image["sha256"]
    assert response.headers["ETag"] == f'"{image["sha256"]}"'
    for etag in (response.headers["ETag"], f'W/"x", W/{response.headers["ETag"]}', "*"):
        again = await api.http.get(image["url"], headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
    changed = await api.http.get(image["url"], headers={"If-None-Match": '"other"'})
    assert changed.status_code == 200


async def test_a_picture_that_lies_with_us_is_no_redirect(api: Api) -> None:
    (image,) = (await api.draw())["images"]
    answer = await api.http.get(f"{image['url']}?redirect=1")
    assert (answer.status_code, answer.content[:4]) == (200, b"\x89PNG")


async def test_head_answers_the_headers_alone(api: Api) -> None:
    (image,) = (await api.draw())["images"]
    response = await api.http.head(image["url"])
    assert response.headers["Content-Length"] == str(image["size_bytes"])
    for path in ("/", "/healthz", "/readyz"):
        assert (await api.http.head(path)).status_code == 200


async def test_a_picture_that_is_not_there_says_why(api: Api) -> None:
    queued = await api.http.get(f"/v1/jobs/{(await api.house.submit()).id}/images/0")
    assert (queued.status_code, "queued" in queued.json()["detail"]) == (404, True)


# -- events --------------------------------------------------------------------------------------


def numbers(text: str) -> list[int]:
    return [int(line[3:]) for line in text.splitlines() if line.startswith("id:")]


async def test_no_event_has_a_number_beyond_what_stores_count(api: Api) -> None:
    job = await api.draw()
    answer = await api.http.get(job["links"]["events"], params={"after": 2**70})
    assert (answer.status_code, answer.json()["field"]) == (422, "after")


async def test_events_are_replayed_after_a_number_and_then_there_are_none(api: Api) -> None:
    job = await api.draw()
    whole = await api.http.get(job["links"]["events"])
    assert whole.headers["Content-Type"].startswith("text/event-stream")
    assert whole.headers["Cache-Control"] == "no-cache"
    assert whole.headers["X-Accel-Buffering"] == "no"
    seen = numbers(whole.text)
    assert seen == list(range(1, len(seen) + 1))
    assert "event: succeeded" in whole.text
    tail = await api.http.get(job["links"]["events"], headers={"Last-Event-ID": "2"})
    assert numbers(tail.text) == seen[2:]
    assert numbers((await api.http.get(job["links"]["events"] + "?after=3")).text) == seen[3:]
    over = await api.http.get(job["links"]["events"], headers={"Last-Event-ID": str(seen[-1])})
    assert over.status_code == 204
    odd = await api.http.get(job["links"]["events"], headers={"Last-Event-ID": "none"})
    assert numbers(odd.text) == seen
