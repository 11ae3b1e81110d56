"""The cluster that this process runs in, by its API server."""

from sfumato.adapters.kubernetes.api import KubernetesApi
from sfumato.adapters.kubernetes.own_pod import OwnPod
from sfumato.adapters.kubernetes.pods import KubernetesClusterView

__all__ = ["KubernetesApi", "KubernetesClusterView", "OwnPod"]
