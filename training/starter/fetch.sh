#!/bin/sh
# Fetches the art packages into training/starter/.cache, which git ignores.
set -eu
cache="$(dirname "$0")/.cache"
mkdir -p "$cache"
cd "$cache"
for package in fluent-emoji-flat@1.2.6 game-icons@1.2.4 noto@1.2.9 noto-v1@1.2.5 \
    twemoji@1.2.5 emojione@1.2.3; do
  name="${package%@*}"
  [ -f "$name/icons.json" ] && continue
  archive="$(npm pack --silent "@iconify-json/$package")"
  mkdir -p "$name"
  tar -xzf "$archive" -C "$name" --strip-components=1
  rm "$archive"
done
