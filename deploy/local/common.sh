# shellcheck shell=bash
# shellcheck disable=SC2034  # the scripts that source it use them
# What the scripts beside it share. Variables with defaults here can be given to make as well:
#   make deploy NAMESPACE=pictures

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root" || exit

: "${RELEASE:=sfumato}" "${NAMESPACE:=sfumato}"
: "${IMAGE_REGISTRY:=ghcr.io/sfumato}"
: "${KEDA_VERSION:=2.20.2}" "${TRAEFIK_VERSION:=41.3.0}"
# Of the local cluster: its name, and where its ingress listens, on this machine alone.
: "${CLUSTER_NAME:=sfumato}" "${LOCAL_PORT:=8081}"
# Not empty: an NVIDIA GPU draws. GPU="" is for processors alone.
GPU=${GPU-nvidia}
VERSION=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' src/sfumato/__init__.py)

chart=$root/deploy/helm/sfumato
local_kubeconfig=$root/build/k8s-local.kubeconfig

step() { printf '\n== %s\n' "$*" >&2; }

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# need TOOL HOW: stop when the tool is missing, and say where it comes from.
need() {
  command -v "$1" >/dev/null || fail "$1 is needed and not there: $2"
}

need_docker() {
  need docker "install Docker Engine 23 or newer, https://docs.docker.com/engine/install/"
  docker buildx version >/dev/null 2>&1 ||
    fail "docker has no buildx: install the package docker-buildx-plugin, https://docs.docker.com/build/install-buildx/"
  docker info >/dev/null 2>&1 ||
    fail "Docker does not answer. Start it, or join the group docker, and run this again."
}

need_helm() {
  need helm "install Helm 3.14 or newer, https://helm.sh/docs/intro/install/"
  need kubectl "install kubectl, https://kubernetes.io/docs/tasks/tools/"
}

# The local cluster's kind, in $CLUSTER: the one that was asked for, else the one that is installed.
choose_cluster() {
  if [[ -z ${CLUSTER:-} ]]; then
    if command -v k3d >/dev/null; then
      CLUSTER=k3d
    elif command -v kind >/dev/null; then
      CLUSTER=kind
    else
      fail "k3d or kind is needed, and neither is there: install k3d, https://k3d.io, or kind, https://kind.sigs.k8s.io."
    fi
  fi
  case $CLUSTER in
    k3d) need k3d "install it, https://k3d.io; or take CLUSTER=kind." ;;
    kind) need kind "install it, https://kind.sigs.k8s.io; or take CLUSTER=k3d." ;;
    *) fail "CLUSTER is '$CLUSTER'. It is k3d or kind." ;;
  esac
}
