"""The table of permissions is what the code asks for: no more, and no less."""

from __future__ import annotations

import asyncio

from sfumato.adapters.kubernetes import KubernetesApi, KubernetesClusterView, OwnPod
from sfumato.adapters.kubernetes.permissions import SERVICE, WORKER, Permission
from tests.support.kubernetes import ApiServer, pod


def asked(server: ApiServer) -> set[Permission]:
    return {Permission(verb, resource) for verb, resource, _ in server.calls}


async def test_a_worker_asks_for_what_its_table_says(server: ApiServer, api: KubernetesApi) -> None:
    server.pods = [pod("w-1"), pod("w-2")]
    own = OwnPod(api, namespace="pictures", name="w-1", settle=0)
    keeping = asyncio.create_task(own.keep_marked())
    for busy, cost in ((True, "100"), (False, "0")):
        own.busy(busy)
        marks = {"controller.kubernetes.io/pod-deletion-cost": cost}
        marks |= {"karpenter.sh/do-not-disrupt": "true"} if busy else {}
        await asyncio.to_thread(server.wait_marked, "w-1", marks)
    keeping.cancel()
    await asyncio.wait((keeping,))
    assert asked(server) == WORKER
    assert {name for _, _, name in server.calls} == {"w-1"}  # its own, and no other


async def test_a_service_asks_for_what_its_table_says(
    server: ApiServer, api: KubernetesApi
) -> None:
    server.pods = [pod("w-1")]
    await KubernetesClusterView(api, namespace="pictures").worker_pods("default")
    assert asked(server) == SERVICE
