#!/bin/bash
# build.sh IN OUT: make OUT/opt/mesos/{lib,libexec}, a layer of every lab host, out of IN/_scheduler.so and the files
# beside this script.  Runs in a Debian 12 tree with gcc, g++, binutils and python3-minimal; needs no network.
# OUT/opt/mesos appears complete or not at all.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
in=${1:-/build} out=${2:-/build/out}
want=84d7ee9af27e912636b139de40257df1ee4f56c201de6bba834278aa1e8fd64c

echo "$want  $in/_scheduler.so" | sha256sum --check --quiet

mkdir -p "$out/opt"
work=$(mktemp -d "$out/opt/.mesos.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work"/{lib,libexec,src}

python3 "$here/mkstubs.py" "$in/_scheduler.so" "$work/src"
stub() { # NAME SOURCE: a shared library of that file name with the symbol versions of SOURCE.map
  gcc -shared -fPIC -O1 -w -o "$work/lib/$1" "$work/src/$2.c" -Wl,-soname,"$1" -Wl,--version-script="$work/src/$2.map" -ldl
}
stub libssl.so.1.0.0 ssl
stub libcrypto.so.1.0.0 ssl
stub libcurl.so.4 curl
# DT_RPATH, not RUNPATH: the stubs have to be found for _scheduler.so too
g++ -std=c++17 -O1 -Wall -rdynamic -o "$work/lib/coemesos" "$here/coemesos.cpp" -ldl -Wl,-rpath,'$ORIGIN',--disable-new-dtags
rm -r "$work/src"

ln "$in/_scheduler.so" "$work/lib/_scheduler.so" 2>/dev/null || cp "$in/_scheduler.so" "$work/lib/_scheduler.so"
ln -s ../lib/coemesos "$work/libexec/mesos-containerizer" # what it is to do, it tells by its name
install -m 755 "$here/mesos-executor" "$work/libexec/"
install -m 755 "$here/master.sh" "$here/agent.sh" "$work/"
chmod 755 "$work"

rm -rf "$out/opt/mesos"
mv "$work" "$out/opt/mesos"
trap - EXIT
