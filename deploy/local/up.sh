#!/usr/bin/env bash
# `make k8s-local`: from nothing to a picture that a worker drew which was not there before, in a
# cluster on this machine, on its processors. Run again, it updates what has changed.
#   CLUSTER=k3d | kind      the one that is installed; k3d where both are
#   LOCAL_PORT=8081         where the cluster's ingress listens, on this machine alone
set -euo pipefail
# shellcheck source=deploy/local/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

choose_cluster
need_docker
need_helm
need curl "install the package curl"
export CLUSTER OVERLAY=$CLUSTER GPU="" PUSH="" VALUES=""
mkdir -p build

step "The cluster $CLUSTER_NAME, by $CLUSTER"
case $CLUSTER in
  k3d)
    k3d cluster get "$CLUSTER_NAME" >/dev/null 2>&1 ||
      k3d cluster create "$CLUSTER_NAME" --port "127.0.0.1:$LOCAL_PORT:80@loadbalancer" \
        --kubeconfig-update-default=false --wait --timeout 10m
    k3d kubeconfig get "$CLUSTER_NAME" >"$local_kubeconfig"
    ;;
  kind)
    kind get clusters 2>/dev/null | grep --quiet --line-regexp "$CLUSTER_NAME" ||
      kind create cluster --name "$CLUSTER_NAME" --kubeconfig "$local_kubeconfig" --wait 10m --config - <<END
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
    extraPortMappings:
      - {containerPort: 30080, hostPort: $LOCAL_PORT, listenAddress: 127.0.0.1}
END
    kind get kubeconfig --name "$CLUSTER_NAME" >"$local_kubeconfig"
    ;;
esac
chmod 600 "$local_kubeconfig"
# A file of its own: whichever cluster your kubectl points at, it is left alone.
export KUBECONFIG=$local_kubeconfig

deploy/local/images.sh
deploy/local/release.sh keda
if [[ $CLUSTER == kind ]]; then
  step "Traefik $TRAEFIK_VERSION, for the ingress; k3d brings one"
  helm upgrade --install traefik traefik --repo https://traefik.github.io/charts \
    --version "$TRAEFIK_VERSION" --namespace traefik --create-namespace \
    --set service.spec.type=NodePort --set ports.web.nodePort=30080 --wait --timeout 10m
fi
deploy/local/release.sh install

step "A picture, through the ingress; no worker runs yet"
url=http://127.0.0.1:$LOCAL_PORT
curl --silent --show-error --fail --output /dev/null \
  --retry 60 --retry-delay 2 --retry-all-errors --max-time 10 "$url/readyz"
credentials=app.kubernetes.io/instance=$RELEASE,app.kubernetes.io/component=credentials
key=$(kubectl --namespace "$NAMESPACE" get secrets --selector "$credentials" \
  --output 'jsonpath={.items[0].data.api-key}' | base64 --decode)
picture=build/castle.png
# The key goes through a file descriptor: others see a command's arguments.
curl --silent --show-error --fail-with-body --max-time 900 --output "$picture" \
  --config <(printf 'header = "Authorization: Bearer %s"\n' "$key") \
  --header 'Content-Type: application/json' --data '{"prompt": "a castle at night"}' \
  "$url/generate" || fail "No picture came; the service's words are in $picture. What the pods say:
  KUBECONFIG=$local_kubeconfig kubectl --namespace $NAMESPACE get pods,events"
[[ $(head -c 4 "$picture" | tail -c 3) == PNG ]] || fail "$picture is no picture: $(head -c 300 "$picture")"
kubectl --namespace "$NAMESPACE" get pods --selector app.kubernetes.io/component=worker
cat >&2 <<END

$picture is the picture; a worker was started for it and ends after some minutes without work.
The page: $url, with the key that this prints:

  export KUBECONFIG=$local_kubeconfig
  kubectl --namespace $NAMESPACE get secrets --selector $credentials --output 'jsonpath={.items[0].data.api-key}' | base64 --decode

make k8s-local-down takes it all away.
END
