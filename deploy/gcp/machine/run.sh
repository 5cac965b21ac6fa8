#!/bin/bash
# What the unit runs: fetches the image and the secrets, and runs the container until it ends. The secrets are only ever
# in /run, which is memory, and in the environment of the service's own processes: not in metadata, not in Docker's
# files, not in a log.
set -euo pipefail

METADATA=${METADATA:-http://metadata.google.internal/computeMetadata/v1}
SECRETS=${SECRETS:-https://secretmanager.googleapis.com/v1}
RUNTIME=${RUNTIME_DIRECTORY:-/run/deskterior}
DATA=/mnt/disks/deskterior-data

fail() {
  echo "deskterior: cannot start: $*" >&2
  exit 1
}

metadata() { curl -sSf --retry 10 --retry-connrefused -H 'Metadata-Flavor: Google' "$METADATA/$1"; }
attribute() { metadata "instance/attributes/$1"; }
field() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p" | head -n 1; } # of JSON with one such field

token() { metadata instance/service-accounts/default/token | field access_token; }

# Prints a secret's newest value. Status 4: it has none, or the newest is disabled.
secret_value() {
  local answer status
  # The token goes by standard input: arguments can be read by every process of the machine.
  answer=$(printf 'header = "Authorization: Bearer %s"\n' "$TOKEN" |
    curl -sS --retry 5 -K - -w '\n%{http_code}' "$SECRETS/projects/$PROJECT/secrets/$1/versions/latest:access") ||
    fail "Secret Manager cannot be reached for $1"
  status=${answer##*$'\n'}
  case $status in
    200) printf '%s' "$answer" | field data | base64 -d ;;
    404) return 4 ;;
    400) [[ $answer == *FAILED_PRECONDITION* ]] && return 4 ;;&
    *) fail "Secret Manager answered $status for $1" ;;
  esac
}

# Adds the setting `$1` to the secrets, as a line of shell. Its value is the secret `$2`.
write_secret() {
  local value status=0
  value=$(secret_value "$2") || status=$?
  case $status in
    0) printf "%s='%s'\n" "$1" "${value//\'/\'\\\'\'}" >>"$RUNTIME/secrets" ;;
    4) echo "deskterior: $1 is left unset: the secret $2 has no enabled version" ;;
    *) exit 1 ;;
  esac
}

fetch_secrets() {
  # The directory is root's alone; the file is for the container's user.
  umask 022
  : >"$RUNTIME/secrets"
  local names name secret
  names=$(attribute deskterior-secrets)
  while IFS='=' read -r name secret; do
    [ -z "$name" ] || write_secret "$name" "$secret"
  done <<<"$names"
  attribute deskterior-database-ca >"$RUNTIME/database-ca.pem"
  attribute deskterior-settings >"$RUNTIME/settings"
}

pull() {
  export DOCKER_CONFIG=$RUNTIME/docker # the registry's token is kept no longer than the unit runs
  # The token goes to Google's registries alone.
  if [[ ${IMAGE%%/*} == *-docker.pkg.dev ]]; then
    docker login -u oauth2accesstoken --password-stdin "https://${IMAGE%%/*}" <<<"$TOKEN" >/dev/null 2>&1 ||
      fail "the registry ${IMAGE%%/*} takes no token of this machine"
  fi
  docker pull -q "$IMAGE"
}

main() {
  PROJECT=$(metadata project/project-id)
  IMAGE=$(attribute deskterior-image)
  TOKEN=$(token)
  [ -n "$TOKEN" ] || fail "the metadata server gave no token"
  fetch_secrets
  pull
  docker rm -f deskterior >/dev/null 2>&1 || true

  local options=(
    --name deskterior --rm --init --read-only
    --user "$(attribute deskterior-uid)" --cap-drop ALL --security-opt no-new-privileges --pids-limit 2048
    --publish 8080:8080 --stop-timeout 100
    --tmpfs '/tmp:rw,nosuid,nodev,size=2g' --shm-size 1g --env BENTOML_HOME=/tmp/bentoml --env HOME=/tmp
    --env-file "$RUNTIME/settings"
    --volume "$RUNTIME/secrets:/run/secrets/deskterior:ro"
    --volume "$RUNTIME/database-ca.pem:/run/secrets/database-ca.pem:ro"
    --log-driver gcplogs --log-opt "gcp-log-cmd=false" --log-opt "labels=org.opencontainers.image.version"
  )
  [ "$(attribute deskterior-gpu)" = no ] || options+=(--gpus all)
  [ "$(attribute deskterior-data)" = no ] || options+=(--volume "$DATA:/data")

  # The image's own command, behind a shell that reads the secrets first. Given to Docker as environment, they would be
  # written into its files.
  local command
  mapfile -t command < <(docker image inspect "$IMAGE" \
    --format '{{range .Config.Entrypoint}}{{println .}}{{end}}{{range .Config.Cmd}}{{println .}}{{end}}' | sed '/^$/d')
  [ ${#command[@]} -gt 0 ] || fail "the image $IMAGE has no command"
  # Detached: its output goes to Cloud Logging once, and not by the journal and the console as well.
  docker run --detach "${options[@]}" --entrypoint /bin/sh "$IMAGE" \
    -c 'set -a; . /run/secrets/deskterior; set +a; exec "$@"' sh "${command[@]}" >/dev/null
  echo "deskterior: started $IMAGE"
  # Not before: an image that no container has is taken away, also the one that was just pulled.
  docker image prune -af --filter until=168h >/dev/null || true
  local code
  code=$(docker wait deskterior)
  echo "deskterior: ended with code $code"
  exit "$code"
}

main
