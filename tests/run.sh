#!/usr/bin/env bash
# Builds and runs all tests: in the release build, then under ASan+UBSan, then under TSan.
# Not the place of any test: units and conformance are in ctest, real processes in tests/e2e.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

usage() {
  cat <<'USAGE'
usage: tests/run.sh [--long] [--lint] [--preset PRESET]... [--no-install] [-k EXPRESSION]

Installs what is missing (Debian), then builds and tests the presets release, asan and tsan.
The last line is "N passed, N failed", with ", N skipped" when some were, and ", N unstable" when an
end-to-end test or two failed among the others but passed alone, three times (tests/again.py).

  --preset PRESET  only this one (may be repeated): release, asan, tsan, dev
  --long           also the tests that take minutes, and the fuzzers, five minutes each
  --lint           first the layout and lint of all files (tests/lint.sh --all)
  --no-install     install no packages
  -k EXPRESSION    only the end-to-end tests that match, as pytest's -k; no ctest
  --help           this text

example:
  tests/run.sh --preset asan -k websocket
USAGE
}

presets=()
install=1
long=
lint=
expression=
markers="not long"
labels=(-LE long)
while [ $# -gt 0 ]; do
  case "$1" in
    --preset) presets+=("${2:?"--preset wants a name"}"); shift ;;
    --long) long=1; markers=''; labels=() ;;
    --lint) lint=1 ;;
    --no-install) install= ;;
    -k) expression=${2:?"-k wants an expression"}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 64 ;;
  esac
  shift
done
[ ${#presets[@]} -gt 0 ] || presets=(release asan tsan)

export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=halt_on_error=0:second_deadlock_stack=1
export CTEST_PARALLEL_LEVEL=2

# gcc 12's sanitizers do not know the address-space layout of newer kernels at full randomisation.
fixed=()
if setarch -R true 2>/dev/null; then fixed=(setarch -R); fi

# Debian's own, for which python3-pytest is installed, before any other in PATH.
python=/usr/bin/python3
[ -x "$python" ] || python=python3

results=()  # files that tests/summary.py adds up

# stage NAME COMMAND...: runs it and prints how long it took
stage() {
  local name=$1 began=$SECONDS status=0
  shift
  printf '\n==> %s\n' "$name"
  "$@" || status=$?
  printf '==> %s%s: %d s\n' "$name" "$([ $status = 0 ] || echo ' FAILED')" $((SECONDS - began))
  return $status
}

# shellcheck disable=SC2317  # this and the next two are called through stage
build() {
  local log=build/$1/build.log
  mkdir -p "build/$1"
  if ! { cmake --preset "$1" && cmake --build --preset "$1"; } >"$log" 2>&1; then
    tail -n 60 "$log"
    return 1
  fi
  printf '%s files compiled\n' "$(grep -c 'Building C' "$log")"
}

# shellcheck disable=SC2317
units() {
  "${fixed[@]}" ctest --preset "$1" "${labels[@]}" --output-junit "$PWD/build/$1/ctest.xml" \
    --test-output-size-passed 1000000 --test-output-size-failed 1000000
}

# One process more than cores: most tests wait more than they work.
# shellcheck disable=SC2317
end_to_end() {
  local status=0
  local pytest=("${fixed[@]}" "$python" -B -m pytest "--build-dir=$PWD/build/$1" -q)
  "${pytest[@]}" tests/e2e -m "$markers" -n "$(($(nproc) + 1))" -k "$expression" \
    --basetemp "build/$1/e2e" --junitxml "build/$1/e2e.xml" --durations 5 || status=$?
  [ "$status" = 1 ] || return "$status"
  (cd tests/e2e && "$python" -B ../again.py "$OLDPWD/build/$1/e2e.xml" "${pytest[@]}" \
    --basetemp "$OLDPWD/build/$1/e2e-again")
}

failed=0
if [ -n "$install" ]; then
  groups=(build test)
  [ -z "$lint" ] || groups+=(lint)
  [ -z "$long" ] || groups+=(fuzz builder)
  stage "packages" docker/install-deps.sh "${groups[@]}" || exit 1
fi
if [ -n "$lint" ]; then
  stage "lint" tests/lint.sh --all || failed=1
fi
for preset in "${presets[@]}"; do
  rm -f "build/$preset/ctest.xml" "build/$preset/e2e.xml"
  if ! stage "build $preset" build "$preset"; then
    failed=1
    results+=("build/$preset/build-that-failed")
    continue
  fi
  if [ -z "$expression" ]; then
    stage "units and conformance, $preset" units "$preset" || failed=1
    results+=("build/$preset/ctest.xml")
  fi
  stage "end to end, $preset" end_to_end "$preset" || failed=1
  results+=("build/$preset/e2e.xml")
done
if [ -n "$long" ] && [ -z "$expression" ]; then
  rm -f build/fuzz/ctest.xml
  if stage "build fuzz" build fuzz; then
    labels=(-L fuzz)
    stage "fuzzers" units fuzz || failed=1
  else
    failed=1
  fi
  results+=("build/fuzz/ctest.xml")
fi
printf '\n%d s in all\n' "$SECONDS"
"$python" -B tests/summary.py "${results[@]}" || failed=1
exit $failed
