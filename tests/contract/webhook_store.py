"""What every ``WebhookStore`` keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sfumato.core.errors import NotFound
from sfumato.core.events import EventKind, NewEvent
from sfumato.core.job import Job
from sfumato.core.ports import JobStore, WebhookStore
from sfumato.core.webhooks import (
    Telling,
    Webhook,
    WebhookDelivery,
    WebhookEvent,
    WebhookState,
)
from tests.contract.jobs import claimed, new_job

HOOK = Webhook("https://example.com/hook?token=x", frozenset({WebhookEvent.SUCCEEDED}), "other")


async def made(store: JobStore, hooks: WebhookStore, *, at: float = 100.0) -> tuple[Job, Telling]:
    job = new_job(at)
    telling = Telling(job.id, HOOK, "k1", at)
    await hooks.add(telling)
    await store.create(job)
    return job, telling


class WebhookStoreContract:
    @pytest.fixture
    async def store(self) -> JobStore:
        raise NotImplementedError

    @pytest.fixture
    async def hooks(self, store: JobStore) -> WebhookStore:
        raise NotImplementedError

    async def test_a_telling_comes_back_as_it_was_made(
        self, store: JobStore, hooks: WebhookStore
    ) -> None:
        job, telling = await made(store, hooks)
        assert await hooks.get(job.id) == telling
        await hooks.remove(job.id)
        await hooks.remove(job.id)
        with pytest.raises(NotFound, match=job.id):
            await hooks.get(job.id)

    async def test_only_what_was_not_told_is_claimed_and_by_one(
        self, store: JobStore, hooks: WebhookStore
    ) -> None:
        job, telling = await made(store, hooks)
        assert await hooks.open() == 1
        held = replace(telling, next_at=20.0)
        assert await hooks.claim(now=10.0, until=20.0) == [held]
        assert await hooks.claim(now=10.0, until=20.0) == []
        assert await hooks.claim(now=20.0, until=30.0) == [replace(held, next_at=30.0)]
        assert await hooks.open() == 1
        await hooks.save(replace(telling, after=1))
        assert await hooks.open() == 0
        assert await hooks.claim(now=40.0, until=50.0) == []
        token = (await claimed(store, job)).attempt
        await store.append(job.id, token, [NewEvent(EventKind.LOADING, 1.0)])
        assert [each.after for each in await hooks.claim(now=40.0, until=50.0)] == [1]

    async def test_who_has_heard_all_or_never_will_is_left_alone(
        self, store: JobStore, hooks: WebhookStore
    ) -> None:
        for state in (WebhookState.DONE, WebhookState.GIVEN_UP):
            job, telling = await made(store, hooks)
            await hooks.save(replace(telling, state=state))
            assert (await hooks.get(job.id)).state is state
        assert await hooks.claim(now=1e9, until=2e9) == []
        assert await hooks.open() == 0

    async def test_what_was_put_off_is_due_in_its_time(
        self, store: JobStore, hooks: WebhookStore
    ) -> None:
        assert await hooks.next_due() is None
        job, telling = await made(store, hooks)
        assert await hooks.next_due() is None
        put_off = replace(telling, tries=2, failing_since=90.0, next_at=200.0)
        await hooks.save(put_off)
        assert await hooks.get(job.id) == put_off
        assert await hooks.next_due() == 200.0
        assert await hooks.claim(now=199.0, until=300.0) == []
        assert len(await hooks.claim(now=200.0, until=300.0)) == 1

    async def test_what_was_tried_is_listed_newest_first(
        self, store: JobStore, hooks: WebhookStore
    ) -> None:
        job, telling = await made(store, hooks)
        tried = [
            WebhookDelivery(job.id, 1, WebhookEvent.STARTED, 1.0, error="nobody answered"),
            WebhookDelivery(job.id, 1, WebhookEvent.STARTED, 2.0, status=204),
        ]
        await hooks.save(telling, tried)
        assert await hooks.deliveries(job.id) == tried[::-1]
        assert await hooks.deliveries(job.id, limit=1) == tried[1:]
        assert list(await hooks.deliveries("other")) == []

    async def test_what_has_no_job_is_forgotten_in_time(
        self, store: JobStore, hooks: WebhookStore
    ) -> None:
        kept, _ = await made(store, hooks)
        orphan = Telling("never-made", HOOK, None, 100.0)
        await hooks.add(orphan)
        await hooks.save(
            orphan, [WebhookDelivery(orphan.job_id, 1, WebhookEvent.IMAGE, 1.0, status=500)]
        )
        assert await hooks.forget(before=100.0) == 0
        assert await hooks.forget(before=101.0) == 1
        assert await hooks.get(kept.id)
        with pytest.raises(NotFound):
            await hooks.get(orphan.job_id)

    async def test_the_first_secret_stays(self, hooks: WebhookStore) -> None:
        assert await hooks.secret(b"\x00first") == b"\x00first"
        assert await hooks.secret(b"second") == b"\x00first"
