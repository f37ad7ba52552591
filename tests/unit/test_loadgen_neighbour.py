"""On a network of its own the agent has the kernel ask for an address' owner as often as the driver wishes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

LOOK = """
ip link add v0 type veth peer name v1 || exit 77
"$0" agent --port 0 & pid=$!
for i in $(seq 200); do
  [ "$(cat /proc/sys/net/ipv4/neigh/v0/retrans_time_ms)" = "$1" ] && break
  kill -0 $pid 2>/dev/null || break
  sleep 0.02
done
cd /proc/sys/net
cat ipv4/neigh/v0/retrans_time_ms ipv6/neigh/v1/retrans_time_ms ipv4/neigh/lo/retrans_time_ms ipv4/neigh/v0/mcast_solicit
kill $pid
"""


def look(coeload: Path, wish: str) -> subprocess.CompletedProcess[str]:
    """The settings of two interfaces and of lo, and how often is asked, in a new network namespace where an agent runs."""
    command = ["unshare", "--net", "sh", "-c", LOOK, str(coeload), wish or "1000"]
    p = subprocess.run(
        command, capture_output=True, text=True, timeout=30, env={**os.environ, "COEBENCH_NEIGHBOUR_RETRY_MS": wish}
    )
    if p.returncode == 77:
        pytest.skip(f"no interface can be made here: {p.stderr.strip()}")
    return p


@pytest.mark.skipif(os.geteuid() != 0, reason="making a network namespace takes root")
@pytest.mark.skipif(not Path("/usr/bin/unshare").exists(), reason="no unshare here")
@pytest.mark.parametrize(("wish", "found"), [("20", ["20", "20", "1000", "3000"]), ("", ["1000", "1000", "1000", "3"])])
def test_the_wish_is_carried_out_but_for_lo(coeload: Path, wish: str, found: list[str]) -> None:
    assert [line for line in look(coeload, wish).stdout.split() if line.isdigit()][-4:] == found


def test_a_wish_that_makes_no_sense_is_refused(coeload: Path) -> None:
    env = {**os.environ, "COEBENCH_NEIGHBOUR_RETRY_MS": "soon"}
    p = subprocess.run([coeload, "agent", "--port", "0", "--open"], capture_output=True, text=True, timeout=10, env=env)
    assert p.returncode == 2
    assert "COEBENCH_NEIGHBOUR_RETRY_MS" in p.stderr
