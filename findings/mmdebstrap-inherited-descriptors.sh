#!/bin/bash
# mmdebstrap 1.3.5-7 (Debian 12) fails when it inherits seven open descriptors.
#
# It passes apt the number of a pipe in a hook, "cat >&N", which apt gives to /bin/sh. On Debian that is dash, which knows
# descriptors of one digit alone. With few inherited descriptors N is below 10 and all is well. A program that holds locks or
# sockets open for its children pushes N above 9, and the build of the tree ends with "Failure running script cat >&15", which
# says nothing of descriptors.
#
# Seen on 2026-12-01 with mmdebstrap 1.3.5-7, apt 2.6.1, dash 0.5.12: exit 0 with no inherited descriptors, exit 25 with seven more.
# Needs root, Debian 12 and its mirror, as apt is configured for it. The same tree is built twice, in a temporary folder.
set -euo pipefail
WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
apt-get -o APT::Sandbox::User=root download mmdebstrap=1.3.5-7 > /dev/null
dpkg-deb -x mmdebstrap_*.deb tool
SOURCE=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) main' 'Created-By: Packages' | grep -m1 ' bookworm main$')
build() {
  unshare --mount --pid --fork --kill-child --mount-proc \
    perl tool/usr/bin/mmdebstrap --mode=root --variant=extract --include=hostname bookworm "$1" - <<< "$SOURCE" > "$1.log" 2>&1
}
few=0; build few || few=$?
many=0; (exec 3< /dev/null 4< /dev/null 5< /dev/null 6< /dev/null 7< /dev/null 8< /dev/null 9< /dev/null; build many) || many=$?
said=$(grep -m1 -o 'Failure running script cat >&[0-9]*' many.log || :)
echo "mmdebstrap 1.3.5-7: exit $few with no inherited descriptors; exit $many with seven: $said"
[ "$few" = 0 ] && [ "$many" != 0 ] && [[ $said =~ \>\&[1-9][0-9]$ ]]
