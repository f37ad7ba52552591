#!/bin/sh
# setup.sh PYTHON VENV: a virtual environment with coebench and all that its tests need.
set -eu
PYTHON=$1 VENV=$2

usable() { "$PYTHON" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if ! usable; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing python3 and python3-venv"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv ca-certificates >/dev/null
    PYTHON=python3
  fi
  usable || { echo "setup: $PYTHON is not Python 3.11 or newer with venv: install it, or say make PYTHON=…" >&2; exit 2; }
fi
# The lab's builder runs in perl, which a minimal Debian lacks but for its base.
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! perl -MDigest::SHA -e1 2>/dev/null; then
  echo "setup: installing perl"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends perl >/dev/null
fi
echo "setup: virtual environment in $VENV"
"$PYTHON" -m venv "$VENV"
echo "setup: packages from PyPI (a minute or two)"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
echo "setup: $("$VENV/bin/coebench" --version) is in $VENV/bin"
