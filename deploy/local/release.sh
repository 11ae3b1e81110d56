#!/usr/bin/env bash
# The chart in the cluster that kubectl points at:
#   release.sh keda | install [scaledobject | scaledjob] | uninstall
# An installation is deploy/overlays/$OVERLAY with the servers of deploy/overlays/trial, or, in
# their place, with VALUES=my-values.yaml. Without OVERLAY, the nodes say where they run.
#   GPU=""         workers draw on processors
set -euo pipefail
# shellcheck source=deploy/local/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

overlay_of_nodes() {
  local provider
  provider=$(kubectl get nodes --output 'jsonpath={.items[0].spec.providerID}')
  case $provider in
    gce:*) echo gke ;;
    aws:*) echo eks ;;
    kind:*) echo kind ;;
    k3s:*) echo k3d ;;
    *) echo bare-metal ;;
  esac
}

keda() {
  step "KEDA $KEDA_VERSION"
  helm upgrade --install keda keda --repo https://kedacore.github.io/charts \
    --version "$KEDA_VERSION" --namespace keda --create-namespace --wait --timeout 10m
}

install() {
  kubectl get crd scaledobjects.keda.sh >/dev/null 2>&1 ||
    fail "The cluster has no KEDA, which starts workers and stops them: make deploy-keda"
  OVERLAY=${OVERLAY:-$(overlay_of_nodes)}
  [[ -f deploy/overlays/$OVERLAY/values.yaml ]] ||
    fail "There is no deploy/overlays/$OVERLAY/values.yaml. OVERLAY is one of: $(cd deploy/overlays && echo *)"
  local arguments=(--values "deploy/overlays/$OVERLAY/values.yaml"
    --values "${VALUES:-deploy/overlays/trial/values.yaml}")
  local images=build/images.yaml
  case $OVERLAY in kind | k3d) images=build/images.local.yaml ;; esac
  if [[ -f $images ]]; then
    arguments+=(--values "$images")
  elif [[ -z $GPU ]]; then
    arguments+=(--set-string "images.worker.tag=$VERSION-cpu")
  fi
  [[ -n $GPU ]] || arguments+=(--set "workers.gpu.count=0" --set "gpu.karpenter.create=false")
  case ${1:-} in
    "") ;;
    scaledobject) arguments+=(--set "workers.scaling=deployment") ;;
    scaledjob) arguments+=(--set "workers.scaling=job") ;;
    *) fail "Workers are scaled by a scaledobject or by scaledjobs, not by '$1'." ;;
  esac
  step "Release $RELEASE in the namespace $NAMESPACE, as on $OVERLAY"
  # The chart keeps to the strictest of Kubernetes' Pod Security Standards; here the cluster holds it to that.
  kubectl create namespace "$NAMESPACE" --dry-run=client --output yaml | kubectl apply --filename - >/dev/null
  kubectl label namespace "$NAMESPACE" --overwrite pod-security.kubernetes.io/enforce=restricted >/dev/null
  helm upgrade --install "$RELEASE" "$chart" --namespace "$NAMESPACE" "${arguments[@]}" \
    --wait --timeout 10m
}

uninstall() {
  helm uninstall "$RELEASE" --namespace "$NAMESPACE" --ignore-not-found --wait --timeout 10m
  step "The volumes of the bundled servers, and their passwords, are kept. They go with: kubectl delete namespace $NAMESPACE"
}

need_helm
kubectl version >/dev/null ||
  fail "kubectl reaches no cluster. Which it knows: kubectl config get-contexts; the local one: make k8s-local"
case ${1:-} in
  keda | uninstall) "$1" ;;
  install) install "${2:-}" ;;
  *) fail "usage: release.sh keda | install [scaledobject | scaledjob] | uninstall" ;;
esac
