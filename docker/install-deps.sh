#!/bin/sh
# The only list of the packages this project needs, and what installs those that are missing.
# It builds nothing and starts nothing.
set -eu

usage() {
  cat <<'USAGE'
usage: docker/install-deps.sh [--list] [GROUP]...

Installs the Debian packages of each GROUP; what is there already is left alone.
Without a group: build. Needs root or sudo only when something is missing.

groups:
  build   compiler, CMake and the libraries' headers
  run     the shared libraries the finished binary needs
  image   what the image has beside them: for its init container, and for kubectl exec
  demo    what docker/demo.sh uses
  test    what tests/run.sh uses
  builder what builds that image in a test, without a daemon
  lint    clang-tidy, clang-format, shellcheck
  fuzz    clang with libFuzzer
  bench   what bench/run.sh uses, with the proxies it compares against

options:
  --list  print the packages of the groups, one a line, and install nothing
  --help  this text

example:
  docker/install-deps.sh build test
USAGE
}

# "a|b": whichever of them is installed, else the first that this release of Debian has.
packages_of() {
  case "$1" in
    build) echo "g++ cmake ninja-build ccache pkg-config" \
                "libuv1-dev libllhttp-dev|node-llhttp libssl-dev libnghttp2-dev libc-ares-dev" \
                "zlib1g-dev prometheus-cpp-dev libyaml-cpp-dev libcli11-dev libspdlog-dev" \
                "libfmt-dev protobuf-compiler libprotobuf-dev libseccomp-dev libcap-dev catch2" ;;
    run)   echo "libuv1|libuv1t64 libssl3|libssl3t64 libnghttp2-14 libc-ares2|libcares2 zlib1g" \
                "libprometheus-cpp-core1.0|libprometheus-cpp-core1.3 libyaml-cpp0.7|libyaml-cpp0.8" \
                "libspdlog1.10|libspdlog1.15 libfmt9|libfmt10 libprotobuf32|libprotobuf32t64" \
                "libseccomp2 libcap2 ca-certificates" ;;
    image) echo "iptables curl" ;;
    demo)  echo "curl" ;;
    test)  echo "curl openssl prometheus python3 python3-pytest python3-pytest-xdist python3-grpcio" \
                "python3-yaml python3-protobuf nghttp2-client iproute2 iptables procps" \
                "netcat-openbsd" ;;
    builder) echo "buildah debootstrap" ;;
    lint)  echo "clang-tidy-19 clang-format-19 shellcheck" ;;
    fuzz)  echo "clang-19 libclang-rt-19-dev" ;;
    bench) echo "python3 openssl wrk nghttp2-client nghttp2-proxy nginx-light haproxy strace linux-perf valgrind" ;;
    *) return 1 ;;
  esac
}

is_installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

die() {
  echo "install-deps: $*" >&2
  exit 1
}

list_only=
groups=
for arg in "$@"; do
  case "$arg" in
    --list) list_only=1 ;;
    -h | --help) usage; exit 0 ;;
    *) packages_of "$arg" >/dev/null || { usage >&2; echo "unknown group: $arg" >&2; exit 64; }
       groups="$groups $arg" ;;
  esac
done
[ -n "$groups" ] || groups=" build"
wanted=
for group in $groups; do
  for package in $(packages_of "$group"); do
    case " $wanted " in *" $package "*) ;; *) wanted="$wanted $package" ;; esac
  done
done

if [ -n "$list_only" ]; then
  for package in $wanted; do echo "$package"; done
  exit 0
fi
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  die "this is not a Debian system (no dpkg-query, no apt-get). Install by your own means:$wanted"
fi

missing=
for package in $wanted; do
  found=
  for name in $(echo "$package" | tr '|' ' '); do
    if is_installed "$name"; then found=1; break; fi
  done
  [ -n "$found" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
  as_root=
elif command -v sudo >/dev/null; then
  as_root=sudo
else
  die "this is neither root nor is there sudo; run as root: $0$groups
missing:$missing"
fi

# In a container that starts nothing anyway this changes nothing; on a host it keeps the daemons of
# the packages (nginx, haproxy, prometheus) from being started by their installation.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap '$as_root rm -f "$policy"' EXIT
  trap 'exit 1' INT TERM
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
  $as_root chmod 755 "$policy"
fi

apt() {
  # Through env, because sudo does not pass the environment on.
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq "$@"
}

echo "install-deps: installing$missing"
apt update || die "apt-get update failed (network, or the sources in /etc/apt)"
chosen=
for package in $missing; do
  pick=
  for name in $(echo "$package" | tr '|' ' '); do
    if apt-cache show --no-all-versions "$name" >/dev/null 2>&1; then pick=$name; break; fi
  done
  [ -n "$pick" ] || die "this release of Debian has no package $package (Debian 12 has all of them)"
  chosen="$chosen $pick"
done
# shellcheck disable=SC2086  # a list of words
apt install -y --no-install-recommends $chosen || die "apt-get install failed:$chosen"
