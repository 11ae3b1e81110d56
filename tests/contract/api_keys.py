"""What every ``ApiKeys`` keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sfumato.core.errors import NotFound
from sfumato.core.keys import GUIDANCE_LIMITS, ApiKey, Scope
from sfumato.core.ports import ApiKeys

KEY = ApiKey(
    "k1",
    "the bot",
    "ab" * 32,
    frozenset({Scope.GENERATE, Scope.READ_OWN}),
    100.0,
    expires_at=200.0,
    models=("starter",),
    runtimes=("default", "large"),
    limits=replace(GUIDANCE_LIMITS, daily_gpu_seconds=2.5),
)


class ApiKeysContract:
    @pytest.fixture
    async def keys(self) -> ApiKeys:
        raise NotImplementedError

    async def test_a_key_is_found_by_its_digest_alone(self, keys: ApiKeys) -> None:
        await keys.create(KEY)
        assert await keys.find(KEY.digest) == KEY
        assert await keys.find("cd" * 32) is None
        assert await keys.get("k1") == KEY

    async def test_keys_are_listed_oldest_first(self, keys: ApiKeys) -> None:
        younger = replace(KEY, id="k0", digest="cd" * 32, created_at=101.0, models=())
        await keys.create(younger)
        await keys.create(KEY)
        assert list(await keys.list()) == [KEY, younger]

    async def test_a_key_is_revoked_once_and_for_good(self, keys: ApiKeys) -> None:
        await keys.create(KEY)
        revoked = replace(KEY, revoked_at=150.0)
        assert await keys.revoke("k1", now=150.0) == revoked
        assert await keys.revoke("k1", now=160.0) == revoked
        assert await keys.find(KEY.digest) == revoked

    async def test_a_replaced_digest_is_good_no_more(self, keys: ApiKeys) -> None:
        await keys.create(KEY)
        assert await keys.replace("k1", digest="ef" * 32) == replace(KEY, digest="ef" * 32)
        assert await keys.find(KEY.digest) is None

    async def test_a_kept_key_is_made_once_and_stays_as_it_became(self, keys: ApiKeys) -> None:
        await keys.keep(KEY)
        await keys.revoke("k1", now=150.0)
        await keys.keep(replace(KEY, id="k2", name="another"))
        assert list(await keys.list()) == [replace(KEY, revoked_at=150.0)]

    async def test_only_a_known_key_is_changed(self, keys: ApiKeys) -> None:
        for change in (
            keys.get("k9"),
            keys.revoke("k9", now=1.0),
            keys.replace("k9", digest="ef" * 32),
        ):
            with pytest.raises(NotFound, match="k9"):
                await change

    async def test_its_last_use_is_kept(self, keys: ApiKeys) -> None:
        await keys.create(KEY)
        await keys.note_use("k1", now=120.0)
        await keys.note_use("k9", now=120.0)
        assert await keys.find(KEY.digest) == replace(KEY, used_at=120.0)

    def test_its_digest_is_in_no_repr(self) -> None:
        assert "abab" not in repr(KEY)
