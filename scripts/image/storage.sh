# Sourced: images and containers of the checks have a place of their own, whatever else the machine runs.

FIRN_DEPLOY_CACHE="${FIRN_DEPLOY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/firn/deploy}"
store="$FIRN_DEPLOY_CACHE/image"
image=localhost/firn:check
mkdir -p "$store"
# What is built here is of this machine alone, so that nobody signed it.
printf '{"default": [{"type": "insecureAcceptAnything"}]}' >"$store/policy.json"

buildah_() { command buildah --root "$store/storage" --runroot "$store/run" --storage-driver overlay "$@"; }
podman_() {
  command podman --root "$store/storage" --runroot "$store/run" --storage-driver overlay \
    --cgroup-manager cgroupfs --events-backend none "$@"
}

# need_tools NAME...: ends with 77, by name, where one is missing or this isn't root, who alone may do all of this everywhere.
need_tools() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || { echo "skipped: $tool isn't there (scripts/check-image install)" >&2; exit 77; }
  done
  [ "$(id -u)" = 0 ] || { echo "skipped: building and running images needs root here" >&2; exit 77; }
}
