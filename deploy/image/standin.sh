#!/usr/bin/env bash
# A stand-in for the base image, where no registry of images can be reached: the same Debian with its own Python 3.11,
# from this machine's package sources. For tests; what is shipped is built on the real one.
#   standin.sh IMAGE     with podman and mmdebstrap, as root
set -euo pipefail
image=$1

# Other sources on this machine (of a compiler, of a cloud) are none of the image's.
sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
  if [ -s "$file" ] && grep -q '/debian.*\|^Suites:.*bookworm' "$file" && grep -q 'bookworm.*main\|^Components:.*main' "$file"; then
    sources+=("$file")
  fi
done

# Without documentation, as in the slim images of Docker's registry. The hook's $1 is mmdebstrap's: the new root.
# shellcheck disable=SC2016
mmdebstrap --quiet --mode=root --format=tar --variant=apt \
  --include=ca-certificates,netbase,passwd,python3,python3-pip,python3-venv,tzdata \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED && ln -s /usr/bin/python3 "$1/usr/local/bin/python"' \
  bookworm - "${sources[@]}" |
  podman import --quiet --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' - "$image" >/dev/null
