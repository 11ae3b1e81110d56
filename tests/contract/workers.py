"""What every ``WorkerTokens`` and every ``WorkerRegistry`` keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sfumato.core.errors import NotFound
from sfumato.core.ports import (
    FORGOTTEN_AFTER,
    WorkerKind,
    WorkerRegistry,
    WorkerReport,
    WorkerToken,
    WorkerTokens,
)

TOKEN = WorkerToken("t1", "gaming-pc", "ab" * 32, ("default", "large"), 100.0, expires_at=200.0)
REPORT = WorkerReport("w1", "default", WorkerKind.REMOTE, "a GPU", ("starter",), 100.0, 100.0)


class WorkerTokensContract:
    @pytest.fixture
    async def tokens(self) -> WorkerTokens:
        raise NotImplementedError

    async def test_a_token_is_found_by_its_digest_alone(self, tokens: WorkerTokens) -> None:
        await tokens.create(TOKEN)
        assert await tokens.find("ab" * 32) == TOKEN
        assert await tokens.find("cd" * 32) is None

    async def test_tokens_are_listed_oldest_first(self, tokens: WorkerTokens) -> None:
        younger = replace(TOKEN, id="t0", digest="cd" * 32, created_at=101.0, expires_at=None)
        await tokens.create(younger)
        await tokens.create(TOKEN)
        assert list(await tokens.list()) == [TOKEN, younger]

    async def test_a_token_is_revoked_once_and_for_good(self, tokens: WorkerTokens) -> None:
        await tokens.create(TOKEN)
        revoked = replace(TOKEN, revoked_at=150.0)
        assert await tokens.revoke("t1", now=150.0) == revoked
        assert await tokens.revoke("t1", now=160.0) == revoked
        assert await tokens.find(TOKEN.digest) == revoked

    async def test_a_kept_token_gets_new_runtimes_and_nothing_else(
        self, tokens: WorkerTokens
    ) -> None:
        await tokens.keep(TOKEN)
        await tokens.revoke("t1", now=150.0)
        await tokens.keep(replace(TOKEN, id="t2", name="another", runtimes=("new",)))
        assert list(await tokens.list()) == [replace(TOKEN, runtimes=("new",), revoked_at=150.0)]

    async def test_only_a_known_token_is_revoked(self, tokens: WorkerTokens) -> None:
        with pytest.raises(NotFound, match="t9"):
            await tokens.revoke("t9", now=1.0)

    async def test_its_last_use_is_kept(self, tokens: WorkerTokens) -> None:
        await tokens.create(TOKEN)
        await tokens.note_use("t1", now=120.0)
        await tokens.note_use("t9", now=120.0)
        assert await tokens.find(TOKEN.digest) == replace(TOKEN, used_at=120.0)

    def test_its_digest_is_in_no_repr(self) -> None:
        assert "abab" not in repr(TOKEN)


class WorkerRegistryContract:
    @pytest.fixture
    async def registry(self) -> WorkerRegistry:
        raise NotImplementedError

    async def test_the_latest_report_counts(self, registry: WorkerRegistry) -> None:
        later = replace(REPORT, device="another GPU", models=("a", "b"), seen_at=110.0)
        await registry.seen(REPORT)
        await registry.seen(later)
        assert list(await registry.list(since=0)) == [later]

    async def test_who_was_not_heard_of_lately_is_not_listed(
        self, registry: WorkerRegistry
    ) -> None:
        for name, at in (("b", 110.0), ("a", 120.0), ("c", 100.0)):
            await registry.seen(replace(REPORT, name=name, seen_at=at))
        assert [report.name for report in await registry.list(since=110.0)] == ["a", "b"]

    async def test_who_ended_is_forgotten(self, registry: WorkerRegistry) -> None:
        await registry.seen(REPORT)
        await registry.gone("w1")
        await registry.gone("w1")
        assert list(await registry.list(since=0)) == []

    async def test_who_vanished_is_forgotten_in_the_end(self, registry: WorkerRegistry) -> None:
        await registry.seen(REPORT)
        late = replace(REPORT, name="w2", seen_at=REPORT.seen_at + FORGOTTEN_AFTER + 1)
        await registry.seen(late)
        assert list(await registry.list(since=0)) == [late]
