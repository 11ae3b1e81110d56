#!/usr/bin/env bash
# Both images. `make images` loads them into this machine's Docker, and with CLUSTER=k3d or kind
# into that cluster, too. PUSH=1 pushes them instead, with an SBOM and the provenance of the build,
# and writes their digests into build/images.yaml, which `make deploy` installs.
#   GPU=""                        the worker without CUDA
#   IMAGE_REGISTRY=… TAG=…        what they are called
#   PYTHON_IMAGE=…@sha256:…       the base, pinned
#   TORCH_INDEX=…                 another index for torch than PyPI: another CUDA
#   PLATFORMS=linux/amd64,…       with PUSH=1
#   PIP_CONFIG=pip.conf           a private package index; it stays in no layer
set -euo pipefail
# shellcheck source=deploy/local/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

need_docker
if [[ -n ${CLUSTER:-} ]]; then choose_cluster; fi

: "${TAG:=$VERSION}"
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
# The same sources give the same timestamps.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
if [[ -z $GPU ]]; then
  : "${TORCH_INDEX:=https://download.pytorch.org/whl/cpu}"
fi
mkdir -p build

# build TARGET TAG: builds it, and leaves what it has become in build/TARGET.iid or .json.
build() {
  local repository=$IMAGE_REGISTRY/sfumato-$1
  local arguments=(buildx build --file Dockerfile --target "$1" --tag "$repository:$2"
    --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH"
    --build-arg "VERSION=$VERSION" --build-arg "REVISION=$revision")
  [[ -z ${PYTHON_IMAGE:-} ]] || arguments+=(--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE")
  [[ -z ${TORCH_INDEX:-} ]] || arguments+=(--build-arg "TORCH_INDEX=$TORCH_INDEX")
  [[ -z ${PIP_CONFIG:-} ]] || arguments+=(--secret "id=pip,src=$PIP_CONFIG")
  if [[ -n ${PUSH:-} ]]; then
    arguments+=(--builder sfumato --platform "${PLATFORMS:-linux/amd64}"
      --sbom=true --provenance=mode=max --metadata-file "build/$1.json"
      --output "type=image,push=true,rewrite-timestamp=true")
  else
    # An attestation makes an index of the image, which kind can't load.
    arguments+=(--load --provenance=false --sbom=false --iidfile "build/$1.iid")
  fi
  step "$repository:$2"
  docker "${arguments[@]}" .
}

pushed() {
  local digest
  digest=$(sed -n 's/.*"containerimage\.digest": *"\(sha256:[0-9a-f]*\)".*/\1/p' "build/$1.json")
  [[ -n $digest ]] || fail "build/$1.json names no digest; was sfumato-$1 pushed?"
  printf '  %s: {repository: %s, digest: "%s"}\n' "$1" "$IMAGE_REGISTRY/sfumato-$1" "$digest"
}

# By its own id: a changed image is rolled out, an unchanged one is not.
loaded() {
  local id repository=$IMAGE_REGISTRY/sfumato-$1
  id=$(<"build/$1.iid")
  id=local-${id#sha256:}
  docker tag "$repository:$2" "$repository:${id:0:18}"
  printf '  %s: {repository: %s, tag: %s, pullPolicy: Never}\n' "$1" "$repository" "${id:0:18}"
}

worker_tag=$TAG
[[ -n $GPU ]] || worker_tag=$TAG-cpu

if [[ -n ${PUSH:-} ]]; then
  # Only a builder of its own can attest and set every file's time.
  docker buildx inspect sfumato >/dev/null 2>&1 ||
    docker buildx create --name sfumato --driver docker-container >/dev/null
fi
build api "$TAG"
build worker "$worker_tag"

if [[ -n ${PUSH:-} ]]; then
  { echo "images:" && pushed api && pushed worker; } >build/images.yaml
  step "The digests are in build/images.yaml"
  exit
fi
{ echo "images:" && loaded api "$TAG" && loaded worker "$worker_tag"; } >build/images.local.yaml

if [[ -n ${CLUSTER:-} ]]; then
  references=()
  while read -r line; do
    [[ $line =~ repository:\ ([^,]+),\ tag:\ ([^,]+), ]] &&
      references+=("${BASH_REMATCH[1]}:${BASH_REMATCH[2]}")
  done < <(tail -n +2 build/images.local.yaml)
  step "Into the $CLUSTER cluster $CLUSTER_NAME"
  case $CLUSTER in
    k3d) k3d image import --cluster "$CLUSTER_NAME" "${references[@]}" ;;
    kind) kind load docker-image --name "$CLUSTER_NAME" "${references[@]}" ;;
  esac
fi
