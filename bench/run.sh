#!/usr/bin/env bash
# Builds what the benchmark needs and runs it; the measuring is in main.py.
# Not a pass or a fail: it prints a table and keeps the numbers in build/bench/.
set -euo pipefail
cd "$(dirname "$0")/.."

install=1
build=build/release
program=main.py
arguments=()
usage() {
  cat <<'USAGE'
usage: bench/run.sh [--load LOAD] [--no-install] [--build-dir DIR] [--rounds N] [--seconds N]
                    [--only A,B,...]
       bench/run.sh --costs [--no-install] [--build-dir DIR] [--only A,B,...]

Measures no proxy, a bare TCP relay (the floor), nginx (for HTTP/2: nghttpx), haproxy and hoplite,
and pairs of each with mutual TLS between them, all in turn and several times over.

  --load LOAD      http1 (default): GET over HTTP/1 by wrk; h2c: GET over HTTP/2 without TLS, and
                   grpc: unary calls, both by h2load
  --rounds N       how often everything is measured (default 5)
  --seconds N      how long each time (default 4)
  --only A,B,...   only these: direct, relay, nginx, nghttpx, haproxy, hoplite, relay-pair,
                   nginx-pair, nghttpx-pair, haproxy-pair, hoplite-pair
  --costs          measure what is not a rate: CPU of large bodies, memory of idle connections and of a
                   slow reader, instructions of a request
  --build-dir DIR  use the programs built in DIR and build nothing
  --no-install     install no packages
  --help           this text
USAGE
}
while [ $# -gt 0 ]; do
  case "$1" in
    --no-install) install= ;;
    --costs) program=costs.py ;;
    --build-dir) build=${2:?"--build-dir wants a folder"}; shift ;;
    --load | --rounds | --seconds | --only) arguments+=("$1" "${2:?"$1 wants a value"}"); shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 64 ;;
  esac
  shift
done

if [ -n "$install" ]; then
  docker/install-deps.sh bench
fi
if [ "$build" = build/release ]; then
  [ -z "$install" ] || docker/install-deps.sh build
  cmake --preset release >/dev/null
  cmake --build --preset release --target hoplite relay test_service
fi
python=/usr/bin/python3
[ -x "$python" ] || python=python3
exec "$python" -B "bench/$program" --build-dir "$build" "${arguments[@]}"
