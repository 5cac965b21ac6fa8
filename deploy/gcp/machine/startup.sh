#!/bin/bash
# Runs at every boot, as root, on Container-Optimized OS and on Ubuntu: makes the machine ready and starts the unit.
# What is particular to this machine stands in its metadata (machine.tf). It holds no secrets.
set -euo pipefail

METADATA=${METADATA:-http://metadata.google.internal/computeMetadata/v1}
STATE=${STATE:-/var/lib/deskterior}
DATA=/mnt/disks/deskterior-data

attribute() { curl -sSf --retry 10 --retry-connrefused -H 'Metadata-Flavor: Google' "$METADATA/instance/attributes/$1"; }

fail() {
  echo "deskterior: cannot start this machine: $*" >&2
  exit 1
}

wait_for_gpu() {
  for _ in $(seq 60); do
    nvidia-smi -L 2>/dev/null && return
    sleep 5
  done
  fail "no GPU after 5 minutes: does the image bring NVIDIA's driver?"
}

# The disk of SQLite and its like. It outlives the machine; only a disk that holds nothing at all is formatted.
mount_data() {
  local disk=/dev/disk/by-id/google-data
  [ -e "$disk" ] || fail "there is no disk named data"
  local found=0
  blkid -p "$disk" >/dev/null || found=$?
  case $found in
    0) ;;
    2) mkfs.ext4 -q -m 0 "$disk" ;; # neither a file system nor a partition table
    *) fail "what is on the disk named data cannot be told" ;;
  esac
  mkdir -p "$DATA"
  mountpoint -q "$DATA" || mount -o discard,nosuid,nodev,noexec "$disk" "$DATA"
  chown "$(attribute deskterior-uid)" "$DATA"
}

# A container that is talked into calling the metadata server gets no token of this machine. Names are still looked up
# there: Google's name server has the same address.
keep_containers_from_metadata() {
  local rule=(DOCKER-USER -d 169.254.169.254/32 -p tcp ! --dport 53 -j REJECT)
  iptables -w -C "${rule[@]}" 2>/dev/null || iptables -w -I "${rule[@]}"
}

main() {
  mkdir -p "$STATE"
  [ "$(attribute deskterior-gpu)" = no ] || wait_for_gpu
  [ "$(attribute deskterior-data)" = no ] || mount_data
  systemctl start docker
  keep_containers_from_metadata
  attribute deskterior-run >"$STATE/run.sh"
  attribute deskterior-unit >/etc/systemd/system/deskterior.service
  systemctl daemon-reload
  systemctl restart --no-block deskterior
}

main
