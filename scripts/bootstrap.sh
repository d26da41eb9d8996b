#!/usr/bin/env bash
# Installs what building and testing need: system packages (apt or brew) and MLX from its wheel, pinned by
# version and hash, into .deps/mlx. Safe to run again: a second run changes nothing and takes a moment.
#   scripts/bootstrap.sh          to build and test
#   scripts/bootstrap.sh --full   also the tools of `make test-full` and `make docs`
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/wheel.sh

mlx_version=0.32.4
apt_packages=(g++ cmake ninja-build make ccache git ca-certificates unzip python3
  libhwy-dev nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libedit-dev libpcre2-dev libutf8proc-dev libxxhash-dev
  libsqlite3-dev libhnswlib-dev
  libgtest-dev libgmock-dev libbenchmark-dev clang-19 libclang-rt-19-dev)
apt_full=(clang-format-14 clang-tidy-19 doxygen gcovr python3-venv
  g++-aarch64-linux-gnu qemu-user googletest)
brew_packages=(bash cmake ninja ccache python3 highway nlohmann-json cli11 yaml-cpp pcre2 utf8proc xxhash hnswlib googletest
  google-benchmark llvm@19)
brew_full=(doxygen gcovr)

say() { echo "bootstrap: $*" >&2; }
die() { say "error: $*"; exit 1; }

install_apt() {
  local wanted=("$@") missing=() as_root=()
  python3 -m pip --version > /dev/null 2>&1 || wanted+=(python3-pip)
  local present
  present=$(dpkg-query --show --showformat '${db:Status-Abbrev}${Package}\n' "${wanted[@]}" 2> /dev/null || true)
  for package in "${wanted[@]}"; do
    grep -qx "ii $package" <<< "$present" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo > /dev/null || die "missing packages and no sudo; as root: apt-get install ${missing[*]}"
    say "using sudo for apt-get"
    as_root=(sudo)
  fi
  say "installing: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --quiet --no-install-recommends "${missing[@]}" < /dev/null >&2
}

install_brew() {
  command -v brew > /dev/null || die "Homebrew is missing; see https://brew.sh"
  local installed missing=()
  installed=$(brew list --formula -1)
  for package in "$@"; do
    grep -qxF "$package" <<< "$installed" || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then brew install "${missing[@]}" >&2; fi
}

# The wheel keeps its own layout: libmlx finds its BLAS through $ORIGIN/../../mlx_cpu.libs.
install_mlx() {
  local name platform sha256
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64)
      name=mlx-cpu platform=manylinux_2_35_x86_64
      sha256=0e0a24fa2ce8b6b94d2e6a90604e8813aa8e29fcb918bb2aa01cfb6d133d8cee ;;
    Linux-aarch64)
      name=mlx-cpu platform=manylinux_2_35_aarch64
      sha256=1289e85e64af1fd16380bf331438bfe4afe875d27afc3e0bcf35f427c488fadd ;;
    Darwin-arm64)
      name=mlx-metal
      case "$(sw_vers -productVersion)" in
        14.*) platform=macosx_14_0_arm64
          sha256=8019b2db622599267d66cc168b2f0dbf5af929790a6c3b3913e00eabc42a7947 ;;
        15.*) platform=macosx_15_0_arm64
          sha256=9f0a3cc26d89724434d9684932fc6f3e4e83669d2a895d858ed2c8a55eb84e8b ;;
        *) platform=macosx_26_0_arm64
          sha256=514df92d41a286895d2564b4b18f4da45096bd7a4a0c47e1042f345ad5a7f936 ;;
      esac ;;
    *) die "no MLX wheel for $(uname -s) $(uname -m); Linux x86-64, Linux arm64 and macOS arm64 have one" ;;
  esac
  local pin="$name $mlx_version $sha256"
  [ "$(cat .deps/mlx/pin 2> /dev/null)" != "$pin" ] || return 0
  say "installing $name $mlx_version into .deps/mlx"
  local work wheel
  mkdir -p .deps
  work=$(mktemp -d .deps/mlx.XXXXXX)
  trap 'rm -rf "$work"' EXIT
  wheel=$(fetch_wheel "$name" "$mlx_version" "$sha256" "$platform" "$work/download")
  unzip -q "$wheel" -d "$work/mlx"
  echo "$pin" > "$work/mlx/pin"
  rm -rf .deps/mlx
  mv "$work/mlx" .deps/mlx
  rm -rf "$work"
  trap - EXIT
}

full=
case "${1-}" in
  "") ;;
  --full) full=1 ;;
  *) die "unknown argument $1; it takes only --full" ;;
esac
case "$(uname -s)" in
  Darwin) install_brew "${brew_packages[@]}" ${full:+"${brew_full[@]}"} ;;
  Linux)
    command -v apt-get > /dev/null || die "only Debian and Ubuntu (apt-get) and macOS (brew) are known here"
    install_apt "${apt_packages[@]}" ${full:+"${apt_full[@]}"} ;;
  *) die "unknown system $(uname -s)" ;;
esac
install_mlx
