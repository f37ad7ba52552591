#!/bin/bash
# sockperf 3.7 with --no-rdtsc leaves out a warm-up that is longer the faster the processor is, and says 400 ms all the same.
#
# It leaves out 0.4 s at the beginning of a test and 0.05 s at the end. These are turned into ticks of the processor's counter
# before the option is read; with --no-rdtsc a tick is then a nanosecond. So both become longer by the processor's GHz: at 2.6 GHz
# 1.17 s are left out, "Warm up time=400 msec" is printed, and a test of one second ends with "No valid observations found", which
# depends on the machine and not on the network. Without the option 0.45 s are left out everywhere.
#
# Seen on 2026-12-01 with sockperf 3.7-1 (Debian 12) at 2.596 GHz: of 4 s, 3.550 s are valid without the option, 2.832 s with it.
# Needs root and Debian 12's package. The traffic is on the loopback.
set -euo pipefail
WORK=$(mktemp -d); SERVER=; trap '[ -z "$SERVER" ] || kill "$SERVER"; rm -rf "$WORK"' EXIT
cd "$WORK"
apt-get -o APT::Sandbox::User=root download sockperf=3.7-1 > /dev/null
dpkg-deb -x sockperf_*.deb tool
tool/usr/bin/sockperf server --tcp -i 127.0.0.1 -p 11999 > server.log 2>&1 & SERVER=$!
for _ in $(seq 100); do (exec 3<> /dev/tcp/127.0.0.1/11999) 2> /dev/null && break; sleep 0.05; done
valid() {
  tool/usr/bin/sockperf ping-pong --tcp -i 127.0.0.1 -p 11999 -m 64 -t 4 "$@" > client.log 2>&1
  grep -q 'Warm up time=400 msec' client.log
  sed -n 's/.*Valid Duration\] RunTime=\([0-9.]*\) sec.*/\1/p' client.log
}
MHZ=$(sed -n 's/^cpu MHz[^:]*: *//p' /proc/cpuinfo | head -1)
by_counter=$(valid); by_clock=$(valid --no-rdtsc)
awk -v mhz="$MHZ" -v a="$by_counter" -v b="$by_clock" 'BEGIN {
  wanted = 4 - 0.45 * mhz / 1000
  printf "sockperf 3.7-1 at %.0f MHz: of 4 s valid %.3f s, with --no-rdtsc %.3f s (4 - 0.45 x GHz is %.3f)\n", mhz, a, b, wanted
  exit !(a > 3.5 && a < 3.6 && b - wanted < 0.05 && wanted - b < 0.05 && mhz > 1200)
}'
