#!/usr/bin/env bash
# A stand-in for the base image, where no registry of images can be reached: the same Debian with its own Python 3.11,
# from this machine's package sources. For tests; what is shipped is built on the real one.
#   standin.sh IMAGE     with podman, buildah and mmdebstrap, as root
set -euo pipefail
image=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
  if [ -s "$file" ] && grep -qE 'bookworm( |$)' "$file" && grep -qE '(^Components:.* main| main)' "$file" &&
    grep -q debian "$file"; then sources+=("$file"); fi
done
mmdebstrap --quiet --mode=root --format=directory --variant=apt \
  --include=ca-certificates,python3,python3-pip,python3-venv,passwd,netbase,tzdata bookworm "$root/fs" "${sources[@]}"
rm -rf "$root"/fs/usr/lib/python3*/EXTERNALLY-MANAGED "$root"/fs/var/lib/apt/lists/* "$root"/fs/var/cache/apt/*
ln -s /usr/bin/python3 "$root/fs/usr/local/bin/python"
container=$(buildah from scratch)
buildah copy -q "$container" "$root/fs" / >/dev/null
buildah config --cmd python3 --env PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah commit -q --rm "$container" "$image" >/dev/null
