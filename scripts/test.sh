#!/bin/sh
# test.sh PYTHON-FOLDER [PYTEST-ARGUMENT…]: build the lab, then run all tests. Called by `make test` after set-up, lint and docs.
#
# The tests of fresh machines mostly wait for mirrors and for each other, and measure nothing: they run while the lab is built.
# With arguments, pytest alone is run with them.
set -eu
BIN=$1; shift
export COEBENCH_TEST_LAB=1
ENGINES='k8s swarm mesos magnum'
if [ $# -gt 0 ]; then
  # shellcheck disable=SC2086 # words
  "$BIN/coebench" lab install $ENGINES
  exec "$BIN/pytest" "$@"
fi
LOG=$(mktemp "${TMPDIR:-/tmp}/coebench-fresh.XXXXXX")
FRESH=
ended() {
  code=$?
  trap - EXIT INT TERM HUP
  if [ -n "$FRESH" ]; then kill "$FRESH" 2>/dev/null && wait "$FRESH" || true; fi
  rm -f "$LOG"
  exit $code
}
trap ended EXIT
trap 'exit 130' INT TERM HUP

echo "test: the lab (about 5 minutes, once), and beside it set-up and unit tests on fresh Debian 12 and 13 (about 8)"
# a shell lets what it starts with & ignore Ctrl-C, and tests of Ctrl-C would, too
env --default-signal=INT,QUIT "$BIN/pytest" tests/fresh -p no:cacheprovider >"$LOG" 2>&1 &
FRESH=$!
# shellcheck disable=SC2086 # words
"$BIN/coebench" lab install $ENGINES
echo "test: the lab is built; waiting for the fresh machines"
result=0
wait "$FRESH" || result=$?
FRESH=
cat "$LOG"
[ $result = 0 ] || { echo "test: the fresh machines failed, see above; the other tests are not run" >&2; exit 1; }
echo "test: all other tests, with real engines (about 45 minutes)"
"$BIN/pytest" --ignore tests/fresh
