#!/bin/sh
# setup.sh [PYTHON [VENV]]: a virtual environment with coebench and everything its tests need.
#
# Exit code 2 and one line that says what to do if that can't be. The next call starts where it makes sense to: an environment
# counts only with the mark .ready, written last, that names its Python, its place and the pins that are in it.
# As root on Debian, missing system packages are installed. pip's and apt's own settings are in effect.
set -eu
PYTHON=${1:-} VENV=${2:-.venv}
LOG= STARTED='' CHILD=''

say() { echo "setup: $*"; }
fail() {
  echo "setup: $*" >&2
  exit 2
}
version_of() { "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }
usable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
pins() { cat pyproject.toml requirements.txt scripts/setup.sh | cksum; }
place() { echo "$(cd "$(dirname "$VENV")" 2>/dev/null && pwd -P)/$(basename "$VENV")"; }

# "whole" if nothing is to do, "older" if packages have to be renewed, else why the environment has to be made anew.
state() {
  [ -e "$VENV" ] || { echo "missing" && return; }
  [ -s "$VENV/.ready" ] || { echo "it is not complete" && return; }
  {
    read -r was_version
    read -r was_place
    read -r was_pins
  } <"$VENV/.ready" || true
  [ "$was_place" = "$(place)" ] || { echo "it was made as $was_place" && return; }
  now=$(version_of "$VENV/bin/python") || now=gone
  [ "$was_version" = "$now" ] || { echo "its Python $was_version is $now" && return; }
  if [ -n "$PYTHON" ]; then
    wanted=$(version_of "$PYTHON") || wanted="$PYTHON"
    [ "$wanted" = "$now" ] || { echo "it has Python $now, not $wanted" && return; }
  fi
  [ "$was_pins" = "$(pins)" ] && echo "whole" || echo "older"
}

ended() {
  code=$?
  trap - EXIT INT TERM HUP
  [ -z "$CHILD" ] || kill "$CHILD" 2>/dev/null || true
  if [ -n "$STARTED" ] && [ $code != 0 ]; then rm -rf "$VENV" 2>/dev/null || true; fi
  if [ -n "$LOG" ] && { [ $code != 2 ] || [ ! -s "$LOG" ]; }; then rm -f "$LOG"; fi
  exit $code
}

# Run a command with its output in the log; a line now and then, with what TELL prints.
logged() {
  tell=$1
  shift
  "$@" >>"$LOG" 2>&1 </dev/null &
  CHILD=$!
  ticks=0
  while kill -0 "$CHILD" 2>/dev/null; do
    sleep 0.2
    ticks=$((ticks + 1))
    [ $((ticks % 50)) != 0 ] || "$tell"
  done
  result=0
  wait "$CHILD" || result=$?
  CHILD=
  return $result
}
quiet() { :; }
fetched() {
  if grep -q '^Installing collected packages' "$LOG"; then
    say "  unpacking packages"
  else
    say "  $(grep -cE '^ *(Downloading|Using cached) .*whl' "$LOG" || true) of $(grep -c '==' requirements.txt) packages fetched"
  fi
}
said() { grep -qiE "$1" "$LOG"; }

# One line for what went wrong in a command of pip's or venv's.
explain() {
  log="(log: $LOG)"
  if said 'No space left on device|Disk quota exceeded'; then
    fail "no space left: $VENV takes about 800 MB, and ${TMPDIR:-/tmp} some while packages are fetched: free some and call again $log"
  elif said 'DO NOT MATCH THE HASHES'; then
    what=$(sed -n 's/^ *\([A-Za-z0-9._-]*\)[^ ]* from .*:$/\1/p' "$LOG" | head -n 1)
    fail "the package index's file of ${what:-a package} is not the one that requirements.txt pins; nothing of it was used:" \
      "empty pip's cache (python3 -m pip cache purge) or use another index, and call again $log"
  elif said 'CERTIFICATE_VERIFY_FAILED|SSLError'; then
    fail "the package index's certificate is not trusted: install ca-certificates, or name your CA's file in PIP_CERT, and call again $log"
  elif said 'Retry\(total|NewConnectionError|Max retries|name resolution|timed out|ProxyError|HTTP error|Could not fetch URL|Connection (refused|reset|aborted|broken)|Network is unreachable|IncompleteRead|incomplete-download|(Client|Server) Error'; then
    fail "the package index can't be reached: check the network, and your proxy (HTTPS_PROXY) or index (PIP_INDEX_URL or pip.conf)," \
      "and call again $log"
  elif said 'No matching distribution found'; then
    what=$(sed -n 's/^ERROR: No matching distribution found for \([^ ]*\).*/\1/p' "$LOG" | head -n 1)
    ! said 'from versions: none' || fail "the package index has no $what, or can't be reached: check the network, and your proxy" \
      "(HTTPS_PROXY) or index (PIP_INDEX_URL or pip.conf), and call again $log"
    fail "the package index has no $what for Python $(version_of "$PYTHON"): use another index (PIP_INDEX_URL or pip.conf)," \
      "or another Python (make setup PYTHON=python3.13), and call again $log"
  elif said 'Permission denied|Read-only file system'; then
    fail "can't write to $VENV or ${TMPDIR:-/tmp}: make them writable, or name another folder (make VENV=…), and call again $log"
  fi
  fail "$1 failed: $(grep -i 'error' "$LOG" | tail -n 1 | cut -c 1-300): mend that and call again $log"
}

# Debian's packages, as root. A dpkg that was stopped in the middle is let finish first.
install() {
  say "installing $* from Debian"
  export DEBIAN_FRONTEND=noninteractive
  set -- env LC_ALL=C apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@"
  logged quiet env LC_ALL=C apt-get -q update || true
  logged quiet "$@" && return
  if said 'dpkg --configure -a'; then
    logged quiet dpkg --configure -a && logged quiet "$@" && return
  fi
  if said 'Could not get lock'; then
    fail "another program is using apt: wait until it is done and call again (log: $LOG)"
  elif said 'No space left|enough free space'; then
    fail "no space left for Debian's packages: free some and call again (log: $LOG)"
  elif said 'Temporary failure|Could not resolve|Could not connect|Cannot initiate|Failed to fetch|Unable to (fetch|locate|connect)|no installation candidate'; then
    fail "Debian's packages can't be fetched: check the network and apt's sources, and call again (log: $LOG)"
  fi
  fail "apt-get failed: $(grep '^E:' "$LOG" | tail -n 1): mend that and call again (log: $LOG)"
}

[ -f requirements.txt ] || fail "there is no requirements.txt here: call make in the project's folder"
if [ "$(state)" = whole ]; then
  say "ready in $VENV"
  exit 0
fi

trap ended EXIT
trap 'exit 130' INT TERM HUP
# One at a time. The lock ends with the last process that has it, so with what pip left running, too.
if command -v flock >/dev/null && exec 9<"$0" && ! flock -n 9; then
  say "another set-up is at work here: waiting for it"
  flock 9
  if [ "$(state)" = whole ]; then
    say "the other one has made it: ready in $VENV"
    exit 0
  fi
fi

LOG=$(mktemp "${TMPDIR:-/tmp}/coebench-setup.XXXXXX" 2>/dev/null) ||
  fail "can't write to ${TMPDIR:-/tmp} (no space, or read-only): make it writable or name another folder (TMPDIR), and call again"
say "takes about half a minute with a fast network; fetches 200 MB from PyPI once, $VENV takes 800 MB"

named=$PYTHON
if [ -z "$named" ]; then
  for PYTHON in python3 python3.14 python3.13 python3.12 python3.11; do
    usable "$PYTHON" && break
  done
  usable "$PYTHON" || PYTHON=python3
fi
root=$([ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo yes || echo no)
missing=
if [ $root = yes ]; then
  [ -n "$named" ] || usable "$PYTHON" || missing="python3 python3-venv"
  [ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
  perl -MDigest::SHA -e1 2>/dev/null || missing="$missing perl" # the lab's trees are made by a perl program
  # shellcheck disable=SC2086 # words
  [ -z "$missing" ] || install $missing
fi
if ! usable "$PYTHON"; then
  version=$(version_of "$PYTHON") || fail "there is no working $PYTHON here: install Python 3.11 or newer with venv, or name it (make setup PYTHON=…)"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$PYTHON is Python $version, and coebench needs 3.11 or newer: install one, or name it (make setup PYTHON=…)"
  fail "$PYTHON ($version) can't make virtual environments: install its venv (on Debian, as root: apt-get install python3-venv) and call again"
fi

found=$(state)
if [ "$found" = older ]; then
  say "$VENV is of other pins than requirements.txt: renewing what differs"
  mv "$VENV/.ready" "$VENV/.was-ready"
elif [ -e "$VENV" ]; then
  [ -f "$VENV/pyvenv.cfg" ] || [ -f "$VENV/.half" ] || rmdir "$VENV" 2>/dev/null ||
    fail "$VENV is there and is no virtual environment: move it away, or name another folder (make VENV=…)"
  say "making $VENV anew: $found"
  rm -rf "$VENV" 2>/dev/null ||
    fail "can't remove $VENV, which must be made anew: remove it (as its owner, or as root) and call again"
fi
if [ "$found" != older ]; then
  say "virtual environment in $VENV, with Python $(version_of "$PYTHON")"
  why=$(mkdir -p "$VENV" 2>&1 && touch "$VENV/.half" 2>&1) || case $why in
    *"No space"* | *quota*) fail "no space left for $VENV, which takes about 800 MB: free some and call again" ;;
    *) fail "can't write to $VENV: make its folder writable, or name another (make VENV=…), and call again" ;;
  esac
  STARTED=yes
  logged quiet "$PYTHON" -m venv "$VENV" || explain "python -m venv"
fi

pip() { logged "$@" --disable-pip-version-check --progress-bar off --no-user --no-compile --no-deps; }
packages() {
  # a pip of today installs them in half the time of Debian 12's
  sed -n '/^pip==/,/[^\\]$/p' requirements.txt >"$VENV/pip.txt"
  pip quiet "$VENV/bin/python" -m pip install --require-hashes --only-binary :all: -r "$VENV/pip.txt" &&
    : >"$LOG" &&
    pip fetched "$VENV/bin/python" -m pip install --require-hashes --only-binary :all: -r requirements.txt
}
say "packages from the index: $(grep -c '==' requirements.txt)"
if ! packages; then
  # pip fetches all before it changes anything
  if [ "$found" = older ] && ! said '^Installing collected packages'; then mv "$VENV/.was-ready" "$VENV/.ready"; fi
  explain pip
fi
say "coebench itself"
pip quiet "$VENV/bin/python" -m pip install --no-build-isolation -e . || explain pip
told=$("$VENV/bin/coebench" --version 2>>"$LOG") || explain coebench

printf '%s\n' "$(version_of "$VENV/bin/python")" "$(place)" "$(pins)" >"$VENV/.ready"
rm -f "$VENV/.was-ready" "$VENV/.half" "$VENV/pip.txt"
say "$told is ready in $VENV/bin"
