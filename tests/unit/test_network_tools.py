"""What iperf3 and sockperf say, and what is made of it."""

from __future__ import annotations

import json

from coebench import plugins
from coebench.contract import Observation, Ran
from coebench.scenarios import network

PINGED = """\
sockperf: == version #3.7-no.git ==
sockperf: [Total Run] RunTime=1.000 sec; Warm up time=400 msec; SentMessages=111758; ReceivedMessages=111757
sockperf: # dropped messages = 0; # duplicated messages = 0; # out-of-order messages = 0
sockperf: Summary: Round trip is 8.715 usec
sockperf: ---> <MAX> observation =  821.290
sockperf: ---> percentile 99.900 =   54.497
sockperf: ---> percentile 99.000 =   23.567
sockperf: ---> percentile 50.000 =    6.873
sockperf: ---> <MIN> observation =    5.378
"""


def ran(out: str = "", err: str = "", code: int = 0) -> Ran:
    return Ran(code=code, out=out, err=err, seconds=1.0)


def test_sockperfs_percentiles() -> None:
    assert network.pinged(ran(PINGED)) == {"p99.9": 54.497, "p99": 23.567, "p50": 6.873}


def test_half_a_round_trip_is_not_taken_for_one() -> None:
    """Without --full-rtt sockperf tells the half."""
    assert network.pinged(ran(PINGED.replace("Round trip is", "Latency is"))) is None


def test_what_failed_is_not_understood_and_says_why() -> None:
    refused = ran(
        "sockperf: == version #3.7-no.git ==\nsockperf: ERROR: Can't connect socket (errno=111 Connection refused)\n", code=1
    )
    assert network.pinged(refused) is None
    assert network._complaint(refused).endswith("Connection refused)")
    busy = ran(json.dumps({"end": {}, "error": "the server is busy running a test. try again later"}), code=1)
    assert network.streamed(busy) is None
    assert network._complaint(busy) == "the server is busy running a test. try again later"
    assert network._complaint(ran(code=127)) == "it ended with 127 and said nothing"


def test_iperf3s_end() -> None:
    end = {"sum_received": {"bits_per_second": 1e9}}
    assert network.streamed(ran(json.dumps({"end": end}))) == end
    assert network.streamed(ran(json.dumps({"end": end}), code=1)) is None
    assert network.streamed(ran("not JSON")) is None


def test_microseconds_become_milliseconds() -> None:
    scenario = plugins.load("scenarios", "network", "scenario")()
    seen = Observation(
        at=1.0,
        name="network.pinged",
        trial="t",
        data={"way": "endpoints", "place": "cross node", "bytes": 64, "microseconds": {"p50": 6.873, "p99": 23.5}},
    )
    found = list(scenario.derive([seen]))
    assert [(s.metric, s.value) for s in found] == [("tcp_round_trip", 6.873 / 1e3), ("tcp_round_trip_p99", 23.5 / 1e3)]
    assert all(s.factors == {"way": "endpoints", "place": "cross node"} for s in found)
