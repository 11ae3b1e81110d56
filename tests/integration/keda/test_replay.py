"""KEDA's arithmetic over the real scaling endpoint and a real job store, in simulated time, on nodes
that boot slowly: as many workers as there is work for, and none left in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from sfumato.adapters.sql import Database, SqlJobStore
from sfumato.api.app import create_app
from sfumato.bootstrap.parts import SystemClock
from sfumato.core.job import Job, JobStatus
from sfumato.core.ports import JobStore
from tests.integration.api.serving import ask, context_of
from tests.support.keda import ScaledJob, ScaledObject, Strategy, first_to_go
from tests.support.parts import House, open_house

#: Seconds: of a poll of KEDA's, until a new node runs its pod, until the model is in memory, of a job.
POLL, BOOT, LOAD, DRAW = 5, 180, 40, 20
#: The autoscaler looks at every third poll.
SYNC = 3
BUSY, IDLE = 100, 0


class SimulatedClock(SystemClock):
    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Pod:
    """A worker's. ``ready_at``: when it runs; ``ends``: (when, which job) of those it draws."""

    name: str
    ready_at: float
    loaded_at: float = 0.0
    ends: list[tuple[float, Job]] = field(default_factory=list)
    claimed_any: bool = False

    @property
    def cost(self) -> int:
        """What a worker writes on its pod."""
        return BUSY if self.ends else IDLE


class Cluster:
    """Pods of one runtime, which claim and finish jobs of the store."""

    def __init__(self, house: House, http: httpx.AsyncClient) -> None:
        assert isinstance(house.clock, SimulatedClock)
        self.house, self.http, self.clock = house, http, house.clock
        self.pods: list[Pod] = []
        self.created = 0
        self.dropped_busy = 0

    @property
    def store(self) -> JobStore:
        return self.house.store

    async def metric(self, name: str) -> float:
        """As KEDA's metrics-api scaler reads it."""
        return float((await self.http.get("/v1/scaling/default")).json()[name])

    def create(self, count: int) -> None:
        for _ in range(count):
            self.created += 1
            self.pods.append(Pod(f"w{self.created}", self.clock.now() + BOOT))

    def pending(self) -> int:
        return sum(pod.ready_at > self.clock.now() for pod in self.pods)

    def let_go(self, count: int) -> None:
        """As a ReplicaSet does; below 1, nothing."""
        count = max(0, count)
        now = self.clock.now()

        def rank(pod: Pod) -> tuple[bool, bool, int]:
            runs = pod.ready_at <= now
            return first_to_go(
                running=runs, ready=runs and pod.loaded_at <= now, deletion_cost=pod.cost
            )

        self.pods.sort(key=rank)
        self.dropped_busy += sum(bool(pod.ends) for pod in self.pods[:count])
        del self.pods[:count]

    async def work(self, *, at_once: int, one_shot: bool) -> None:
        """What every running pod does at this moment."""
        now = self.clock.now()
        for pod in list(self.pods):
            for end, job in [each for each in pod.ends if each[0] <= now]:
                await self.store.finish(job.id, job.attempt, status=JobStatus.SUCCEEDED, now=end)
                pod.ends.remove((end, job))
            if pod.ready_at > now:
                continue
            if one_shot and pod.claimed_any:
                if not pod.ends:
                    self.pods.remove(pod)
                continue
            await self._claim(pod, at_once)
            if one_shot and not pod.ends:
                self.pods.remove(pod)  # it found nothing, and ends before it loads anything

    async def _claim(self, pod: Pod, at_once: int) -> None:
        now = self.clock.now()
        waiting = (await self.store.list(status=JobStatus.QUEUED, limit=200)).jobs
        for job in list(reversed(waiting))[: at_once - len(pod.ends)]:
            won = await self.store.claim(job.id, worker=pod.name, now=now, lease_until=now + 30)
            assert won is not None
            if not pod.claimed_any:
                pod.claimed_any, pod.loaded_at = True, now + LOAD
            pod.ends.append((max(now, pod.loaded_at) + DRAW, won))

    async def submit(self, count: int) -> None:
        for _ in range(count):
            await self.house.submit()

    async def all_done(self) -> bool:
        counts = await self.store.counts("default")
        return counts.queued + counts.running == 0


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    database = Database.open(f"sqlite:///{tmp_path / 'jobs.db'}")
    opened = open_house(clock=SimulatedClock(), store=SqlJobStore(database))
    async with opened as house, ask(create_app(context_of(house))) as http:
        yield Cluster(house, http)
    await database.close()


async def play_jobs(
    cluster: Cluster, scaled: ScaledJob, metric: str, *, bursts: dict[int, int]
) -> None:
    """Poll until everything is done. ``bursts``: seconds from the start -> jobs that come then."""
    start = cluster.clock.now()
    for _ in range(300):
        await cluster.submit(bursts.pop(int(cluster.clock.now() - start), 0))
        await cluster.work(at_once=1, one_shot=True)
        value = await cluster.metric(metric)
        jobs = len(cluster.pods)
        cluster.create(scaled.jobs_to_create(value, running=jobs, pending=cluster.pending()))
        assert len(cluster.pods) <= scaled.max_replicas
        if not bursts and not cluster.pods and await cluster.all_done():
            return
        cluster.clock.seconds += POLL
    raise AssertionError(f"{len(cluster.pods)} pods are left, or jobs that nobody drew")


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize(("strategy", "metric"), [("default", "open"), ("accurate", "queued")])
async def test_n_jobs_make_n_workers_however_long_a_node_boots(
    cluster: Cluster, strategy: Strategy, metric: str, count: int
) -> None:
    await play_jobs(cluster, ScaledJob(strategy), metric, bursts={0: count})
    assert cluster.created == count


async def test_a_second_burst_does_not_wait_for_the_first(cluster: Cluster) -> None:
    await play_jobs(cluster, ScaledJob(), "open", bursts={0: 3, 100: 2, 230: 1})
    assert cluster.created == 6
    jobs = (await cluster.store.list(limit=50)).jobs
    waits = [job.started_at - job.created_at for job in jobs if job.started_at is not None]
    assert len(waits) == 6
    assert max(waits) <= BOOT + POLL


async def test_more_jobs_than_workers_may_be_are_done_in_turns(cluster: Cluster) -> None:
    await play_jobs(cluster, ScaledJob(max_replicas=2), "open", bursts={0: 5})
    assert cluster.created == 5


@pytest.mark.parametrize(
    ("strategy", "metric"), [("eager", "open"), ("eager", "queued"), ("accurate", "open")]
)
async def test_why_the_other_combinations_are_not_offered(
    cluster: Cluster, strategy: Strategy, metric: str
) -> None:
    await play_jobs(cluster, ScaledJob(strategy), metric, bursts={0: 3})
    assert cluster.created >= 2 * 3


@pytest.mark.parametrize("per_worker", [1, 4])
async def test_workers_of_a_deployment_are_as_many_as_the_work_and_then_none(
    cluster: Cluster, per_worker: int
) -> None:
    scaled = ScaledObject(target=per_worker)
    bursts = {0: 10, 400: 3}
    most = 0
    for turn in range(400):
        await cluster.submit(bursts.pop(turn * POLL, 0))
        await cluster.work(at_once=per_worker, one_shot=False)
        value, replicas = await cluster.metric("open"), len(cluster.pods)
        now = cluster.clock.now()
        wanted = scaled.polled(value, replicas, now=now)
        if turn % SYNC == 0:
            wanted = scaled.synced(value, wanted, now=now) if wanted else 0
        cluster.create(wanted - replicas)
        cluster.let_go(replicas - wanted)
        most = max(most, len(cluster.pods))
        if not bursts and not cluster.pods and await cluster.all_done():
            break
        cluster.clock.seconds += POLL
    assert not cluster.pods
    assert await cluster.all_done()
    assert most == -(-10 // per_worker)
    assert cluster.dropped_busy == 0


async def test_of_many_pods_the_idle_ones_go_first(cluster: Cluster) -> None:
    """Eight long jobs end one by one, and each time that a pod is let go it is one that is done."""
    scaled = ScaledObject(target=1, cooldown=30, stabilization=0, down_every=15)
    await cluster.submit(8)
    cluster.create(8)
    cluster.clock.seconds += BOOT
    await cluster.work(at_once=1, one_shot=False)
    for index, pod in enumerate(cluster.pods):
        pod.ends = [(cluster.clock.now() + 60 * (index + 1), job) for _, job in pod.ends]
    for turn in range(300):
        await cluster.work(at_once=1, one_shot=False)
        value, replicas, now = await cluster.metric("open"), len(cluster.pods), cluster.clock.now()
        wanted = scaled.polled(value, replicas, now=now)
        if wanted and turn % SYNC == 0:
            wanted = scaled.synced(value, wanted, now=now)
        cluster.let_go(replicas - wanted)
        if not cluster.pods:
            break
        cluster.clock.seconds += POLL
    assert not cluster.pods
    assert await cluster.all_done()
    assert cluster.dropped_busy == 0
