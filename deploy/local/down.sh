#!/usr/bin/env bash
# `make k8s-local-down`: the local cluster goes, with all that is in it. Images stay in Docker.
set -euo pipefail
# shellcheck source=deploy/local/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

choose_cluster
case $CLUSTER in
  k3d) k3d cluster delete "$CLUSTER_NAME" ;;
  kind) kind delete cluster --name "$CLUSTER_NAME" ;;
esac
rm -f "$local_kubeconfig"
