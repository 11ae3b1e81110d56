"""Values that can't work are refused, with what would."""

from __future__ import annotations

import re
from typing import Any

import helm_python
import pytest

from tests.support.chart import merge
from tests.support.chart_runtimes import KARPENTER, render_runtime

L4 = {"class": "l4", "platform": "eks"}
SLICED = {**L4, "sharing": {"mode": "time-slicing", "replicas": 4}}


def karpenter(**values: Any) -> dict[str, Any]:
    return merge(KARPENTER, {"gpu": {"karpenter": values}})


@pytest.mark.parametrize(
    ("runtime", "others", "message"),
    [
        pytest.param(
            {"scaling": "job", "trigger": {"type": "external-push"}}, {},
            "external-push trigger knows no ScaledJob", id="external-push cannot start jobs",
        ),
        pytest.param(
            {"gpu": SLICED, "resources": {"requests": {"cpu": "1"}}}, {},
            r"4 workers share a node of 4 CPUs, of which 0.6 are the system's: 850m for each. "
            "They ask for 1: the last would never fit", id="cpu of the slices",
        ),
        pytest.param(
            {"gpu": SLICED, "resources": {"requests": {"memory": "8Gi"}}}, {},
            "3200Mi for each. They ask for 8Gi", id="memory of the slices",
        ),
        pytest.param(
            {"gpu": {**L4, "sharing": {"mode": "time-slicing", "replicas": 16}}}, {},
            "16 workers share a GPU of 22.0 GiB: 1.4 GiB for each", id="gpu memory of the slices",
        ),
        pytest.param(
            {"gpu": {**L4, "sharing": {"mode": "mps", "replicas": 14}}}, {},
            "14 workers share a node of 4 CPUs and 16 GiB: 242m", id="too many for the node",
        ),
        pytest.param(
            {"gpu": {"sharing": {"mode": "time-slicing", "replicas": 4}}}, {},
            "4 workers are to fit a node, of which nothing is known", id="unknown node",
        ),
        pytest.param(
            {"gpu": {"sharing": {"mode": "time-slicing"}}}, {},
            "say how many workers share a GPU, 2 or more", id="one slice",
        ),
        pytest.param(
            {"gpu": {"sharing": {"replicas": 4}}}, {},
            "gpu.sharing.mode is none", id="slices of nothing",
        ),
        pytest.param(
            {"gpu": {"sharing": {"mode": "mig"}}}, {}, "migProfile says which", id="mig of what",
        ),
        pytest.param(
            {"gpu": {"class": "l5", "platform": "gke"}}, {},
            'no class of GPU "l5". Those known are a100-40, ', id="unknown class",
        ),
        pytest.param(
            {"gpu": {"class": "a10g", "platform": "gke"}}, {},
            'gke is not known to have GPUs of the class "a10g"', id="class of another cloud",
        ),
        pytest.param(
            {"gpu": {"platform": "gke"}}, {}, "gpu.class says nothing", id="platform alone",
        ),
        pytest.param(
            {"gpu": {"capacity": "spot"}}, {},
            "which nodes are spot can't be told on platform none", id="spot anywhere",
        ),
        pytest.param(
            {"scaling": "kserve"}, {}, "replicas.min must be 1 or more", id="kserve from zero",
        ),
        pytest.param(
            {"scaling": "kserve", "replicas": {"min": 1}}, {},
            "needs a figure to scale by", id="kserve by nothing",
        ),
        pytest.param(
            {"scaling": "knative", "models": ["sd-turbo"]}, {},
            "no API to fetch sd-turbo from", id="models that a server can't reach",
        ),
        pytest.param(
            {"scaling": "knative", "extraSidecars": [{"name": "a", "image": "b"}]}, {},
            "extraSidecars go with scaling: deployment and job", id="sidecars of knative",
        ),
        pytest.param(
            {"replicas": {"min": 3, "max": 2}}, {}, "below replicas.min", id="replicas",
        ),
        pytest.param(
            {"terminationGracePeriodSeconds": 30}, {}, "more than 60", id="grace",
        ),
        pytest.param(
            {"scaling": "job", "job": {"activeDeadlineSeconds": 900}}, {},
            "job.activeDeadlineSeconds is 900", id="deadline",
        ),
        pytest.param(
            {"env": {"SFUMATO_GRACE": "5"}}, {},
            "env.SFUMATO_GRACE: the chart sets this one itself", id="a variable of the chart's",
        ),
        pytest.param(
            {"trigger": {"type": "rabbitmq"}}, {},
            "KEDA asks RabbitMQ's management API", id="rabbitmq without an address",
        ),
        pytest.param(
            {"trigger": {"type": "aws-sqs-queue"}}, {},
            "needs trigger.aws.region and trigger.aws.account", id="sqs without an account",
        ),
        pytest.param(
            {}, {"runtimes": [{"name": "a"}, {"name": "a"}]},
            "each runtime needs a name of its own", id="names",
        ),
        pytest.param(
            {}, {"gpu": {"priorityClasses": {"interactive": 1}}},
            "interactive must be above batch", id="priorities",
        ),
        pytest.param(
            {}, karpenter(), "no runtime is on gpu.platform: eks", id="nodes for nobody",
        ),
        pytest.param(
            {"gpu": {"class": "a100-40", "platform": "eks",
                     "sharing": {"mode": "mig", "migProfile": "1g.5gb"}}},
            karpenter(), "calls an instance of MIG nvidia.com/gpu", id="mig of bottlerocket",
        ),
        pytest.param(
            {"gpu": SLICED, "replicas": {"max": 33}}, karpenter(),
            "gpu.karpenter.limit of 8 GPUs has room for 32 workers", id="more than the quota",
        ),
        pytest.param(
            {"gpu": L4}, karpenter(nodeRole=""), "both are needed", id="nodes of no cluster",
        ),
        pytest.param(
            {"gpu": L4, "terminationGracePeriodSeconds": 3600}, karpenter(),
            "Karpenter would delete them as soon as their node begins to drain", id="drain",
        ),
        pytest.param(
            {}, {"models": {"cache": {"type": "claim"}}},
            "models.cache.claim is the PersistentVolumeClaim", id="cache of no claim",
        ),
        pytest.param(
            {}, {"models": {"cache": {"type": "hostPath"}}},
            "models.cache.path is the node's folder", id="cache of no folder",
        ),
        pytest.param(
            {}, {"models": {"s3Mount": {"enabled": True}}},
            "models.s3Mount needs the bucket's name and region", id="mount of no bucket",
        ),
        pytest.param(
            {}, {"models": {"imageVolume": {"repository": "r.example.com/sd"}}},
            "Give its digest, or a tag", id="image of no version",
        ),
    ],
)  # fmt: skip
def test_what_can_not_work_is_refused_with_what_would(
    runtime: dict[str, Any], others: dict[str, Any], message: str
) -> None:
    with pytest.raises(helm_python.HelmError, match=re.escape(message)):
        render_runtime(runtime, others)


@pytest.mark.parametrize(
    "runtime",
    [
        {"polingInterval": 5},
        {"scaling": "cronjob"},
        {"job": {"strategy": "eager"}},
        {"job": {"backoffLimit": 6}},
        {"trigger": {"type": "rabbitmq", "protocol": "amqp"}},
        {"scaledObject": {"scaleOnInFlight": False}},
        {"gpu": {"sharing": {"mode": "timeslicing"}}},
        {"gpu": {"count": 2}},
        {"startupSeconds": 60},
        {"name": "With Capitals"},
    ],
    ids=str,
)
def test_the_schema_refuses_typos_and_what_is_known_to_be_wrong(runtime: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmValuesError):
        render_runtime(runtime)


@pytest.mark.parametrize(
    "others",
    [
        {"gpu": {"karpneter": {}}},
        {"gpu": {"karpenter": {"consolidateAfter": "soon"}}},
        {"models": {"cache": {"type": "nfs"}}},
        {"models": {"bottlerocketSnapshot": {"id": "vol-1"}}},
        {"workers": {"name": "all"}},
    ],
    ids=str,
)
def test_the_schema_refuses_them_beside_the_runtimes(others: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmValuesError):
        render_runtime(others=others)
