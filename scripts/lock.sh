#!/bin/sh
# lock.sh [OPTION…]: make requirements.txt anew from pyproject.toml, with hashes, for every Python that coebench supports.
# Pins that still fit are kept. To renew some: scripts/lock.sh --upgrade-package numpy. To renew all: scripts/lock.sh --upgrade.
# The options go to `uv pip compile`. uv is fetched into a temporary environment; UV may name one that is here.
set -eu
cd "$(dirname "$0")/.."
PYTHONS="3.11.0 3.12.0 3.13.0 3.14.0" BELOW=3.15
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

if [ -z "${UV:-}" ]; then
  "${PYTHON:-python3}" -m venv "$WORK/uv"
  "$WORK/uv/bin/python" -m pip install --quiet --disable-pip-version-check uv==0.13.9
  UV=$WORK/uv/bin/uv
fi
{
  cat pyproject.toml
  echo '[tool.uv]'
  echo "environments = [\"python_full_version < '$BELOW' and sys_platform == 'linux'\"]"
} >"$WORK/pyproject.toml"

[ ! -e requirements.txt ] || cp requirements.txt "$WORK/" # uv prefers the pins that it finds in its output
echo pip >"$WORK/pip.in" # what scripts/setup.sh installs the others with
# fewest: one version for all Pythons where there is one, so that all are tested with the same
(cd "$WORK" && "$UV" pip compile --quiet --universal --fork-strategy fewest --python-version 3.11.0 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links --extra dev "$@" pyproject.toml pip.in --output-file requirements.txt)
# What holds on every machine that this is for need not be said 100 times.
sed -i -e "s/python_full_version < '$BELOW' and //; s/ and sys_platform == 'linux'//; s/ ; sys_platform == 'linux'//" "$WORK/requirements.txt"

# Each pin has a wheel, and one that wants no newer Python, for each: a fresh machine has no compiler.
for version in $PYTHONS; do
  echo "lock: checking for Python $version"
  "$UV" pip compile --quiet --no-deps --only-binary :all: --python-version "$version" \
    --python-platform x86_64-unknown-linux-gnu --output-file "$WORK/checked.txt" "$WORK/requirements.txt"
done
cp "$WORK/requirements.txt" requirements.txt
echo "lock: requirements.txt has $(grep -c '^[^ ]*==' requirements.txt) packages"
