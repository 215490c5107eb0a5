# Sourced by the other scripts: finds or installs what they need.
# Debian and Ubuntu get it installed; elsewhere the missing things are named.

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else return 1; fi
}

# need_packages PACKAGE...: Debian packages that must be installed.
need_packages() {
  local missing=() package
  if ! command -v dpkg-query >/dev/null; then
    say "This is no Debian or Ubuntu. Please make sure that the equivalents of these are installed: $*"
    return 0
  fi
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return 0
  say "Installing ${missing[*]}"
  as_root apt-get update -qq \
    && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 \
    || fail "could not install them; as root, run: apt-get install ${missing[*]}"
}

# need_rust: rustup and the toolchain that rust-toolchain.toml pins.
need_rust() {
  if ! command -v cargo >/dev/null && [ -r "$HOME/.cargo/env" ]; then . "$HOME/.cargo/env"; fi
  if ! command -v cargo >/dev/null; then
    say "Installing rustup (https://rustup.rs)"
    curl --proto '=https' --tlsv1.2 -fsSL https://sh.rustup.rs \
      | sh -s -- -y --quiet --profile minimal --default-toolchain none --no-modify-path >&2 \
      || fail "could not install Rust; see https://rustup.rs"
    . "$HOME/.cargo/env"
  fi
  # Any rustup command in this folder installs the pinned toolchain; a distribution's cargo must be new enough itself.
  cargo --version >/dev/null || fail "cargo does not run; see https://rustup.rs"
}

# What building needs beside Rust: a C compiler for SQLite, zstd and librdkafka, which is linked to the system's zlib and OpenSSL.
need_build_tools() {
  need_packages build-essential pkg-config ca-certificates curl perl python3 zlib1g-dev libssl-dev
  need_rust
}

# What makes cargo build Ballista's client, and a cluster for tests; it needs protobuf-compiler.
ballista_features=firn-cli/ballista,firn-ballista/in-process

# Where cargo puts what it builds.
target_dir() { printf '%s' "${CARGO_TARGET_DIR:-$PWD/target}"; }
