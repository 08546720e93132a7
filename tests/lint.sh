#!/usr/bin/env bash
# Layout and lint: clang-format and shellcheck on all tracked files, clang-tidy on changed or all.
# Not a test of behaviour: that is tests/run.sh, which runs this first when told --lint.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

usage() {
  cat <<'USAGE'
usage: tests/lint.sh [--all] [--fix] [FILE]...

Checks the layout of all tracked C++ files (clang-format-19), all shell scripts (shellcheck), and
with clang-tidy-19 each FILE, or those of proxy, telemetry and tls changed since the last commit.

  --all   clang-tidy on every file of proxy, telemetry and tls (takes many minutes)
  --fix   let clang-format write what it would complain about
  --help  this text

example:
  tests/lint.sh proxy/http1/parser.cc
USAGE
}

all=
format=(--dry-run --Werror)
chosen=()
while [ $# -gt 0 ]; do
  case "$1" in
    --all) all=1 ;;
    --fix) format=(-i) ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 64 ;;
    *) chosen+=("$1") ;;
  esac
  shift
done

failed=0
check() {
  local name=$1
  shift
  if ! command -v "$1" >/dev/null; then
    printf '==> %s: %s IS MISSING (docker/install-deps.sh lint)\n' "$name" "$1"
    failed=1
    return
  fi
  printf '==> %s\n' "$name"
  "$@" || failed=1
}

mapfile -t sources < <(git ls-files '*.cc' '*.h')
mapfile -t scripts < <(git grep -lE '^#!.*\b(ba)?sh$' -- . ':!*.md')
check "layout of ${#sources[@]} files" clang-format-19 "${format[@]}" "${sources[@]}"
check "${#scripts[@]} shell scripts" shellcheck "${scripts[@]}"

if [ -n "$all" ]; then
  mapfile -t chosen < <(git ls-files 'proxy/*.cc' 'telemetry/*.cc' 'tls/*.cc')
elif [ ${#chosen[@]} = 0 ]; then
  mapfile -t chosen < <(git diff --name-only HEAD -- 'proxy/*.cc' 'telemetry/*.cc' 'tls/*.cc')
fi
if [ ${#chosen[@]} -gt 0 ]; then
  # Any configured build knows how each file is compiled.
  database=
  for build in build/*/; do
    [ -f "$build/compile_commands.json" ] && database=$build
  done
  if [ -z "$database" ]; then
    cmake --preset dev >/dev/null || exit 1
    database=build/dev
  fi
  check "clang-tidy of ${#chosen[@]} files" clang-tidy-19 --quiet -p "$database" \
    --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-error=deprecated-declarations \
    "${chosen[@]}"
fi
exit $failed
