"""The API server is called as Kubernetes wants it, and its refusals are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfumato.adapters.kubernetes import KubernetesApi
from sfumato.core.errors import Forbidden, NotFound, Unavailable
from tests.support.kubernetes import ApiServer, pod


async def test_a_token_that_was_replaced_is_read_anew(
    server: ApiServer, api: KubernetesApi
) -> None:
    server.pods = [pod("a"), pod("b", runtime="other")]
    for token in ("first", "second"):
        server.rotate_token(token)
        listed = await api.list_pods("pictures", labels="sfumato.dev/runtime=default")
        assert [each["metadata"]["name"] for each in listed] == ["a"]


async def test_annotations_are_set_and_taken_away_and_others_stay(
    server: ApiServer, api: KubernetesApi
) -> None:
    server.pods = [pod("a")]
    server.pod("a")["metadata"]["annotations"] = {"theirs": "1", "old": "2"}
    await api.annotate_pod("pictures", "a", {"new": "3", "old": None, "never": None})
    assert server.marks("a") == {"theirs": "1", "new": "3"}


@pytest.mark.parametrize(
    ("status", "error"), [(403, Forbidden), (401, Forbidden), (404, NotFound), (503, Unavailable)]
)
async def test_a_refusal_is_told_with_the_servers_words(
    server: ApiServer, api: KubernetesApi, status: int, error: type[Exception]
) -> None:
    server.refuses = status
    with pytest.raises(error, match=f"{status}: pods is forbidden"):
        await api.annotate_pod("pictures", "a", {"x": "1"})


async def test_a_token_is_shown_to_no_server_of_another_authority(
    server: ApiServer, tmp_path: Path
) -> None:
    with ApiServer(tmp_path / "other") as other:
        async with KubernetesApi(server.url, other.credentials) as api:
            with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
                await api.list_pod_events("pictures")
    assert server.calls == []


async def test_without_credentials_nothing_is_asked(server: ApiServer, tmp_path: Path) -> None:
    async with KubernetesApi(server.url, tmp_path / "none") as api:
        with pytest.raises(Forbidden, match=r"ca\.crt"):
            await api.list_pod_events("pictures")
    (server.credentials / "token").unlink()
    async with KubernetesApi(server.url, server.credentials) as api:
        with pytest.raises(Forbidden, match="automountServiceAccountToken"):
            await api.list_pod_events("pictures")


async def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with ApiServer(tmp_path / "gone") as gone:
        pass
    async with KubernetesApi(gone.url, gone.credentials) as api:
        with pytest.raises(Unavailable, match="does not answer"):
            await api.list_pods("pictures", labels="a=b")
