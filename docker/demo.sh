#!/usr/bin/env bash
# The main job, shown: ten requests from a client, through its sidecar, over mutual TLS, through the
# server's sidecar, to a service, and what both sidecars report in Istio's metrics.
# Not a test of anything else; tests/run.sh is.
set -euo pipefail
cd "$(dirname "$0")/.."

host=podinfo.test.svc.cluster.local
wanted='^istio_(requests_total|request_duration_milliseconds_count)'
keep=
install=1
build=build/release

usage() {
  cat <<'USAGE'
usage: docker/demo.sh [--keep] [--no-install] [--build-dir DIR]

Installs what is missing (Debian), builds, starts a service and two sidecars on 127.0.0.1, sends ten
requests over mutual TLS and prints the metrics of both sides. Leaves nothing running.

  --keep           leave everything up, and print the URLs and how to stop it
  --no-install     install no packages
  --build-dir DIR  use the programs built in DIR and build nothing
  --help           this text
USAGE
}

die() {
  echo "demo: $*" >&2
  exit 1
}

while [ $# -gt 0 ]; do
  case "$1" in
    --keep) keep=1 ;;
    --no-install) install= ;;
    --build-dir) build=${2:?"--build-dir wants a folder"}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 64 ;;
  esac
  shift
done

if [ "$build" = build/release ]; then
  [ -z "$install" ] || docker/install-deps.sh build demo
  echo "demo: building (the first time takes some minutes)"
  log=$(mktemp)
  if ! { cmake --preset release && cmake --build --preset release --target hoplite test_service
       } >"$log" 2>&1; then
    tail -n 50 "$log" >&2
    die "the build failed; its whole output is in $log"
  fi
  rm -f "$log"
elif [ -n "$install" ]; then
  docker/install-deps.sh demo
fi
hoplite=$build/hoplite
service=$build/tests/support/test_service
if [ ! -x "$hoplite" ] || [ ! -x "$service" ]; then
  die "hoplite and test_service are not in $build"
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/hoplite-demo.XXXXXX")
pids=()
cleanup() {
  status=$?
  trap - EXIT
  if [ "$status" = 0 ] && [ -n "$keep" ]; then return; fi
  if [ "$status" != 0 ]; then
    for file in "$dir"/*.err; do
      [ ! -s "$file" ] || { echo "--- $(basename "$file" .err) said:"; tail -n 20 "$file"; } >&2
    done
  fi
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$dir"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME COMMAND...: in the background, what it prints in $dir/NAME.out and .err
start() {
  local name=$1
  shift
  "$@" >"$dir/$name.out" 2>"$dir/$name.err" </dev/null &
  pids+=($!)
}

# await NAME REGEX: the rest of the first line of NAME's output after REGEX, within ten seconds
await() {
  local line
  for _ in $(seq 200); do
    if line=$(grep -m 1 -E "$2" "$dir/$1.out"); then
      sed -E "s/$2//" <<<"$line"
      return
    fi
    sleep 0.05
  done
  die "$1 is not up after ten seconds"
}

# stats_port PREFERRED: that port, or 0 (any) when something else has it
stats_port() {
  if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
    echo "demo: port $1 is in use, taking any free one for this sidecar's metrics" >&2
    echo 0
  else
    echo "$1"
  fi
}

get() {
  curl --silent --show-error --fail --noproxy '*' --max-time 10 "$@"
}

# total URL METRIC: the sum of its series
total() {
  get "$1" | awk -v name="$2" 'index($0, name "{") == 1 { sum += $NF } END { print sum + 0 }'
}

"$hoplite" certs init --dir "$dir" >/dev/null
"$hoplite" certs issue --dir "$dir" --name server --namespace test --service-account podinfo >/dev/null
"$hoplite" certs issue --dir "$dir" --name client --namespace default --service-account client >/dev/null

start service "$service" --listen 127.0.0.1:0 --name podinfo
app=$(await service '^listening on ')

server_stats=$(stats_port 15090)
cat >"$dir/server.yaml" <<YAML
workload: {name: podinfo-v1, namespace: test, app: podinfo, version: v1}
inbound: {listen: "127.0.0.1:0", app: "$app", service: podinfo.test.svc.cluster.local}
mtls: {mode: strict, cert: $dir/server.pem, key: $dir/server-key.pem, ca: $dir/ca.pem}
stats: {listen: "127.0.0.1:$server_stats"}
YAML
start server "$hoplite" run -c "$dir/server.yaml"
await server '^ready in ' >/dev/null
server=$(await server '^listening inbound ')

client_stats=$(stats_port 15091)
cat >"$dir/client.yaml" <<YAML
workload: {name: client-v1, namespace: default, app: client, version: v1}
outbound:
  listen: "127.0.0.1:0"
  services:
    - hosts: [$host]
      port: 80
      namespace: test
      endpoints: ["$server"]
      tls: {mode: mutual, sans: ["spiffe://cluster.local/ns/test/sa/podinfo"]}
mtls: {mode: strict, cert: $dir/client.pem, key: $dir/client-key.pem, ca: $dir/ca.pem}
stats: {listen: "127.0.0.1:$client_stats"}
YAML
start client "$hoplite" run -c "$dir/client.yaml"
await client '^ready in ' >/dev/null
client=$(await client '^listening outbound ')
server_url=$(await server '^stats ')
client_url=$(await client '^stats ')

cat <<TEXT

  curl -> client sidecar $client -> mutual TLS -> server sidecar $server -> service $app

\$ for i in \$(seq 10); do curl -H 'Host: $host' http://$client/version; done
TEXT
for _ in $(seq 10); do get -H "Host: $host" "http://$client/version"; done

# show WHO URL REPORTER POLICY: prints the metrics and checks that they are the ten requests
show() {
  local metric count text
  for metric in istio_requests_total istio_request_duration_milliseconds_count; do
    for _ in $(seq 100); do  # a request is counted when its last byte is out
      count=$(total "$2" "$metric")
      [ "$count" != 10 ] || break
      sleep 0.05
    done
    [ "$count" = 10 ] || die "$1: $metric is $count, not 10"
  done
  text=$(get "$2" | grep -E "$wanted")
  printf "\n\$ curl -s %s | grep -E '%s'\n%s\n" "$2" "$wanted" "$text"
  if grep -v "reporter=\"$3\"" <<<"$text" | grep -q . ||
     grep -v "connection_security_policy=\"$4\"" <<<"$text" | grep -q .; then
    die "$1: not all of it has reporter=\"$3\" and connection_security_policy=\"$4\""
  fi
}
show "the client's sidecar" "$client_url" source unknown
show "the server's sidecar" "$server_url" destination mutual_tls

printf '\ndemo: both sidecars counted all ten requests, the server over mutual_tls.\n'
if [ -n "$keep" ]; then
  cat <<TEXT
Still running, until: kill ${pids[*]}; rm -r $dir
  send requests          curl -H 'Host: $host' http://$client/
  the client's metrics   $client_url
  the server's metrics   $server_url
  configurations         $dir/client.yaml $dir/server.yaml
TEXT
fi
