#!/bin/bash
# Stands in for docker, k3d, kind, kubectl, helm and curl in the tests of deploy/local: it writes
# down how it was called, one line a call, and answers as much as those scripts need to go on.
# $STATE is a folder: calls, and one file for each thing that is there.
tool=${0##*/}
# At once: two tools may be called at a time, at both ends of a pipe.
printf -v call '%s\x1f' "$tool" "KUBECONFIG=${KUBECONFIG:-}" "$@"
printf '%s\n' "$call" >>"$STATE/calls"

value_of() { # value_of FLAG ARGUMENTS…: what follows the flag
  local flag=$1
  while shift && (($#)); do
    if [[ $1 == "$flag" ]]; then printf '%s' "$2" && return; fi
  done
}

case "$tool $1 $2" in
  "docker buildx build")
    target=$(value_of --target "$@")
    digest=sha256:$(printf '%s' "$target" | sha256sum | head -c 64)
    file=$(value_of --iidfile "$@")
    if [[ -n $file ]]; then printf '%s' "$digest" >"$file"; fi
    file=$(value_of --metadata-file "$@")
    if [[ -n $file ]]; then printf '{\n  "containerimage.digest": "%s"\n}\n' "$digest" >"$file"; fi
    ;;
  "docker buildx inspect") [[ -e $STATE/builder ]] ;;
  "docker info"*) [[ ! -e $STATE/docker-is-down ]] ;;
  "k3d cluster get") [[ -e $STATE/cluster ]] ;;
  "k3d cluster create") touch "$STATE/cluster" ;;
  "k3d kubeconfig get" | "kind get kubeconfig") echo "of $tool" ;;
  "kind get clusters") if [[ -e $STATE/cluster ]]; then echo sfumato; fi ;;
  "kind create cluster") cat >"$STATE/kind.yaml" && touch "$STATE/cluster" ;;
  "kubectl version "*) [[ ! -e $STATE/no-cluster ]] ;;
  "kubectl get crd") [[ ! -e $STATE/no-keda ]] ;;
  "kubectl get nodes") printf '%s' "$PROVIDER" ;;
  "kubectl --namespace "*) if [[ $* == *api-key* ]]; then printf 'sfk_secret' | base64; fi ;;
  "curl "*)
    if [[ -e $STATE/no-picture && $* == */generate ]]; then exit 22; fi
    for file in "$@"; do if [[ $file == /dev/fd/* ]]; then cat "$file" >>"$STATE/curl-config"; fi; done
    file=$(value_of --output "$@")
    printf '\x89PNG\r\n' >"$file"
    ;;
esac
