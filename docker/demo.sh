#!/usr/bin/env bash
# The main job, shown: ten requests and ten gRPC health checks from a client, through its sidecar,
# over mutual TLS, through the server's sidecar, to a service, and what both sidecars report in
# Istio's metrics.
# Not a test of anything else; tests/run.sh is.
set -euo pipefail
cd "$(dirname "$0")/.."

host=podinfo.test.svc.cluster.local
grpc_host=podinfo-grpc.test.svc.cluster.local
wanted='^istio_(requests_total|request_duration_milliseconds_count)'
grpc_wanted='^istio_(requests_total.*request_protocol="grpc"|re(quest|sponse)_messages_total)'
keep=
install=1
build=build/release

usage() {
  cat <<'USAGE'
usage: docker/demo.sh [--keep] [--no-install] [--build-dir DIR]

Installs what is missing (Debian), builds, starts a service and two sidecars on 127.0.0.1, sends ten
requests and ten gRPC health checks over mutual TLS and prints the metrics of both sides. Leaves
nothing running.

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

# total URL METRIC LABEL: the sum of its series that have this label
total() {
  get "$1" | awk -v name="$2" -v label="$3" \
    'index($0, name "{") == 1 && index($0, label) > 0 { sum += $NF } END { print sum + 0 }'
}

# A gRPC health check of the whole server: an empty message, answered by one that says SERVING.
check_health() {
  get --http2-prior-knowledge -H "Host: $grpc_host" -H 'Content-Type: application/grpc' \
    -H 'TE: trailers' --data-binary "@$dir/empty" -D "$dir/head" -o "$dir/body" \
    "http://$client/grpc.health.v1.Health/Check" || return
  tr -d '\r' <"$dir/head" | grep -x 'grpc-status: 0' || return
  cmp -s "$dir/body" "$dir/serving"
}

"$hoplite" certs init --dir "$dir" >/dev/null
"$hoplite" certs issue --dir "$dir" --name server --namespace test --service-account podinfo >/dev/null
"$hoplite" certs issue --dir "$dir" --name client --namespace default --service-account client >/dev/null

start service "$service" --listen 127.0.0.1:0 --grpc-listen 127.0.0.1:0 --name podinfo
app=$(await service '^listening on ')
grpc_app=$(await service '^serving gRPC on ')

# One inbound sidecar for each port of the service.
# start_server NAME APP SERVICE STATS
start_server() {
  cat >"$dir/$1.yaml" <<YAML
workload: {name: podinfo-v1, namespace: test, app: podinfo, version: v1}
inbound: {listen: "127.0.0.1:0", app: "$2", service: $3}
mtls: {mode: strict, cert: $dir/server.pem, key: $dir/server-key.pem, ca: $dir/ca.pem}
stats: {listen: "127.0.0.1:$4"}
YAML
  start "$1" "$hoplite" run -c "$dir/$1.yaml"
  await "$1" '^ready in ' >/dev/null
}
start_server server "$app" "$host" "$(stats_port 15090)"
server=$(await server '^listening inbound ')
start_server grpc "$grpc_app" "$grpc_host" "$(stats_port 15092)"
grpc=$(await grpc '^listening inbound ')

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
    - hosts: [$grpc_host]
      port: 80
      namespace: test
      endpoints: ["$grpc"]
      tls: {mode: mutual, sans: ["spiffe://cluster.local/ns/test/sa/podinfo"]}
mtls: {mode: strict, cert: $dir/client.pem, key: $dir/client-key.pem, ca: $dir/ca.pem}
stats: {listen: "127.0.0.1:$client_stats"}
YAML
start client "$hoplite" run -c "$dir/client.yaml"
await client '^ready in ' >/dev/null
client=$(await client '^listening outbound ')
server_url=$(await server '^stats ')
grpc_url=$(await grpc '^stats ')
client_url=$(await client '^stats ')

cat <<TEXT

  curl -> client sidecar $client -> mutual TLS -> server sidecar $server -> service $app

\$ for i in \$(seq 10); do curl -H 'Host: $host' http://$client/version; done
TEXT
for _ in $(seq 10); do get -H "Host: $host" "http://$client/version"; done

# show WHO URL REPORTER POLICY PATTERN LABEL METRIC...: prints the metrics that match the pattern and
# checks that each METRIC, where it has this label, is ten
show() {
  local who=$1 url=$2 reporter=$3 policy=$4 pattern=$5 label=$6 metric count text
  shift 6
  for metric; do
    for _ in $(seq 100); do  # a request is counted when its last byte is out
      count=$(total "$url" "$metric" "$label")
      [ "$count" != 10 ] || break
      sleep 0.05
    done
    [ "$count" = 10 ] || die "$who: $metric is $count, not 10"
  done
  text=$(get "$url" | grep -E "$pattern")
  printf "\n\$ curl -s %s | grep -E '%s'\n%s\n" "$url" "$pattern" "$text"
  if grep -v "reporter=\"$reporter\"" <<<"$text" | grep -q . ||
     grep request_protocol <<<"$text" |
     grep -v "connection_security_policy=\"$policy\"" | grep -q .; then
    die "$who: not all of it has reporter=\"$reporter\" and connection_security_policy=\"$policy\""
  fi
}
http=(request_protocol=\"http\" istio_requests_total istio_request_duration_milliseconds_count)
show "the client's sidecar" "$client_url" source unknown "$wanted" "${http[@]}"
show "the server's sidecar" "$server_url" destination mutual_tls "$wanted" "${http[@]}"

cat <<TEXT

  curl -> client sidecar $client -> mutual TLS -> server sidecar $grpc -> gRPC service $grpc_app

\$ for i in \$(seq 10); do printf '\\0\\0\\0\\0\\0' | curl --http2-prior-knowledge --data-binary @- \\
    -H 'Host: $grpc_host' -H 'Content-Type: application/grpc' -H 'TE: trailers' \\
    http://$client/grpc.health.v1.Health/Check; done
TEXT
printf '\0\0\0\0\0' >"$dir/empty"
printf '\0\0\0\0\2\10\1' >"$dir/serving"
for _ in $(seq 10); do check_health || die "the gRPC health check failed"; done
ten='grpc_response_status="0"'
show "the client's sidecar" "$client_url" source unknown "$grpc_wanted" "$ten" istio_requests_total
show "the server's sidecar" "$grpc_url" destination mutual_tls "$grpc_wanted" "$ten" \
  istio_requests_total
for url in "$client_url" "$grpc_url"; do
  for metric in istio_request_messages_total istio_response_messages_total; do
    [ "$(total "$url" "$metric" reporter)" = 10 ] || die "$url: $metric is not 10"
  done
done

printf '\ndemo: both sides counted all ten requests and all ten gRPC calls, the server over mutual_tls.\n'
if [ -n "$keep" ]; then
  cat <<TEXT
Still running, until: kill ${pids[*]}; rm -r $dir
  send requests          curl -H 'Host: $host' http://$client/
  the client's metrics   $client_url
  the server's metrics   $server_url and, for gRPC, $grpc_url
  configurations         $dir/client.yaml $dir/server.yaml $dir/grpc.yaml
TEXT
fi
