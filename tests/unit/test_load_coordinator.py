"""Several generators as one: every one accounted for, every second counted once. Real agents where a process matters, else
generators that speak the protocol and misbehave on purpose."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))

from generators import Farm, Generator, frame_of
from loadgen_harness import Agent, NullServer, Server, answering, free_port, identity

from coebench.contract import BadInput, Burst, EngineError, LoadPlan, LoadResult, Target, now
from coebench.load import coordinator as coordination
from coebench.load import hdr, share
from coebench.load.coordinator import Coordinator

PLAN = LoadPlan(targets=(Target("127.0.0.1", 9),), rate=100.0, arrivals="constant", connections=4, duration=2.0, warmup=1.0)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that is gone is given up sooner than in a bay."""
    monkeypatch.setattr(coordination, "GRACE", 2.0)


@pytest.fixture(scope="module")
def binary(coeload: Path) -> Path:
    return coeload


@contextlib.contextmanager
def agents(binary: Path, *names: str, options: tuple[str, ...] = ()) -> Iterator[list[Agent]]:
    running = [Agent(binary, *options, *(("--name", n) if options else ())) for n in names]
    try:
        yield running
    finally:
        for agent in running:
            agent.end()


@contextlib.contextmanager
def relay(binary: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    process = subprocess.Popen([str(binary), "relay", "--port", str(port), "--open"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process, int(process.stdout.readline().rsplit(" ", 1)[1])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def called(running: list[Agent]) -> list[tuple[str, tuple[str, int]]]:
    return [(f"g{i}", ("127.0.0.1", a.port)) for i, a in enumerate(running)]


def add_up(result: LoadResult) -> None:
    """Every request that was planned is somewhere, in the whole and for each generator."""
    for part in (result, *result.accounts):
        assert part.planned == part.sent + part.unsent
        assert part.sent == part.ok + sum(part.errors.values()) + part.inflight
    for key in ("planned", "sent", "ok", "unsent", "inflight"):
        assert getattr(result, key) == sum(getattr(a, key) for a in result.accounts)
    if result.per_target:
        assert result.per_target == {name: t.ok for name, t in result.targets.items()}
        for key in ("sent", "ok", "inflight"):
            assert getattr(result, key) == sum(getattr(t, key) for t in result.targets.values())
    for target in result.targets.values():
        assert target.sent == target.ok + sum(target.errors.values()) + target.inflight
    if result.histogram:
        assert int(hdr.decode(result.histogram).sum()) == result.ok


# ---- real agents ----


@pytest.mark.parametrize(("rate", "arrivals", "planned"), [(900.0, "constant", 1800), (900.0, "poisson", None), (0.0, "", None)])
def test_three_generators_are_one(binary: Path, rate: float, arrivals: str, planned: int | None) -> None:
    seen: list[Burst] = []
    with NullServer(binary) as null, agents(binary, "a", "b", "c") as running:
        plan = LoadPlan(
            targets=(Target("127.0.0.1", null.port),), rate=rate, arrivals=arrivals, connections=7, duration=1.5, warmup=0.7
        )
        result = Coordinator(plan, called(running)).run(seen.append)
    add_up(result)
    assert result.flags == ()
    assert result.per_target == {f"127.0.0.1:{null.port}": result.ok}
    assert result.ok > 1000
    if planned:
        assert result.planned == planned * 0.75
        assert abs(result.offered_rps - rate) < 1
    # The view: every second once, in turn, of all three, and it sums up to the same.
    assert [b.phase for b in seen] == ["warmup", "measured", "measured", "drain"]
    assert {b.generators for b in seen} == {3}
    assert [round(b.seconds, 6) for b in seen[:3]] == [0.7, 1.0, 0.5]
    assert np.all(np.diff([b.at for b in seen]) > 0)
    if rate:
        assert sum(b.planned for b in seen if b.phase != "warmup") == result.planned
    for account in result.accounts:
        assert account.state == "done"
        assert abs(account.offset) < 0.05
        assert 0 < account.uncertainty < 0.05
        assert account.seconds == 4
        assert account.missing == ()
    assert sum(a.ok for a in result.accounts) == result.ok


def test_generators_start_at_one_instant_by_their_own_clocks(binary: Path) -> None:
    """What each sends first arrives within a few ms of the others' first, and interleaves with it."""
    first: dict[int, float] = {}

    def note(connection: socket.socket) -> None:
        first[connection.getpeername()[1]] = now()
        answering(identity())(connection)

    with Server(note) as server, agents(binary, "a", "b") as running:
        target = Target("127.0.0.1", server.port)
        plan = LoadPlan(targets=(target,), rate=50.0, arrivals="constant", connections=2, duration=0.4, warmup=0.0)
        coordinator = Coordinator(plan, called(running))
        result = coordinator.run()
    assert coordinator.timeline
    assert result.ok == 20
    assert max(a.late for a in result.accounts) == 0


def test_a_generator_that_is_killed_is_named_and_what_it_told_counts(binary: Path) -> None:
    with NullServer(binary) as null, agents(binary, "a", "b") as running:
        target = Target("127.0.0.1", null.port)
        plan = LoadPlan(targets=(target,), rate=400.0, connections=4, duration=3.0, warmup=0.0)

        def kill(burst: Burst) -> None:
            if burst.generators == 2 and running[1].process.poll() is None:
                running[1].process.send_signal(signal.SIGKILL)
                running[1].process.wait()

        result = Coordinator(plan, called(running)).run(kill)
    add_up(result)
    one, other = result.accounts
    assert (one.state, other.state) == ("done", "lost")
    assert other.seconds >= 1
    assert other.ok > 100
    assert result.ok == one.ok + other.ok
    assert [f for f in result.flags if "g1 was lost" in f]
    assert result.per_target == {}
    assert result.targets[null.target].ok == one.ok  # what was told is kept


def test_a_bad_target_is_told_from_a_good_one(binary: Path) -> None:
    with NullServer(binary) as null, agents(binary, "a", "b") as running, Server(refusing) as bad:
        targets = (Target("127.0.0.1", null.port), Target("127.0.0.1", bad.port))
        plan = LoadPlan(targets=targets, rate=400.0, connections=8, duration=1.0, warmup=0.0)
        result = Coordinator(plan, called(running)).run()
        single = Coordinator(plan, called(running)[:1]).run()
    for one in (result, single):
        add_up(one)
        good, broken = (one.targets[f"127.0.0.1:{t.port}"] for t in targets)
        assert broken.errors == {"bad_status": broken.sent}
        assert broken.latency_ms == {}
        assert good.errors == {}
        assert good.ok == one.ok > 100
        # All good answers were one target's, so its latencies are those of the whole.
        assert good.latency_ms == {k: one.latency_ms[k] for k in ("p50", "p99", "max")}
        assert one.errors == broken.errors


def refusing(connection: socket.socket) -> None:
    answering(b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n")(connection)


def test_latencies_of_a_target_are_merged_not_averaged() -> None:
    values = ([1_000_000] * 99 + [50_000_000], [2_000_000] * 50)
    generators = []
    for mine in values:
        generator = Generator(lambda seq: steady(seq))
        told = {"ok": len(mine), "sent": len(mine) + 3, "errors": {"reset": 2}, "in_flight": 1, "bytes": 0}
        told |= {"latency": frame_of(mine)["latency"], "latency_ms": {"max": max(mine) / 1e6}}
        generator.targets = {"10.0.0.1:80": told, "10.0.0.2:80": {"ok": 0, "latency": "nonsense"}}
        generators.append(generator)
    with Farm(*generators) as farm:
        result = Coordinator(msgspec.structs.replace(PLAN, duration=1.0, warmup=0.0), farm.addresses).run()
    one = result.targets["10.0.0.1:80"]
    assert (one.sent, one.ok, one.errors, one.inflight) == (156, 150, {"reset": 4}, 2)
    assert one.latency_ms["p50"] == pytest.approx(1.0, rel=1e-3)
    assert one.latency_ms["p99"] == pytest.approx(2.0, rel=1e-3)  # of the 150; the mean of both p99 were 1.5
    assert one.latency_ms["max"] == 50.0
    assert result.targets["10.0.0.2:80"].latency_ms == {}
    assert sum("sent 1 lines that can't be read; odd line: target 10.0.0.2:80" in f for f in result.flags) == 2


def test_what_is_acknowledged_is_let_go_of_and_the_rest_is_kept(binary: Path) -> None:
    with NullServer(binary) as null, agents(binary, "a") as running:
        with running[0].connect() as control:
            control.send("load", id="L", targets=null.target, rate=100, duration="2s", acked=1)
            control.until("second", seq=0)
            control.send("ack", id="L", next=1)
        with running[0].connect() as control:  # the end comes while nobody listens, or just after
            control.send("attach", id="L")
            done, before = control.until("done")
            assert [e["seq"] for e in before if e["event"] == "second"] == list(range(1, done["seconds"]))
        with running[0].connect() as control:
            control.send("attach", id="L", since=0)
            _, before = control.until("done")
            assert [e["seq"] for e in before if e["event"] == "second"] == list(range(1, done["seconds"]))
            control.send("ack", id="L", next=done["seconds"], end=1)
            control.send("ack", id="L", next=done["seconds"], end=1)  # said twice, it is no error
            control.send("attach", id="L")
            assert "there is no job" in control.next()["message"]


def test_a_load_that_nobody_takes_fails_with_the_reason(binary: Path) -> None:
    plan = LoadPlan(targets=(Target("no-such-name.invalid", 80),), rate=10.0, connections=2, duration=1.0, warmup=0.0)
    with agents(binary, "a", "b") as running, pytest.raises(EngineError, match="cannot resolve"):
        Coordinator(plan, called(running)).run()


def test_what_the_listener_raises_stops_the_load(binary: Path) -> None:
    class Enough(Exception):
        pass

    def enough(burst: Burst) -> None:
        raise Enough

    with NullServer(binary) as null, agents(binary, "a") as running:
        plan = LoadPlan(targets=(Target("127.0.0.1", null.port),), rate=100.0, connections=2, duration=60.0, warmup=0.0)
        begun = time.monotonic()
        with pytest.raises(Enough):
            Coordinator(plan, called(running)).run(enough)
        assert time.monotonic() - begun < 10
        with running[0].connect() as control:  # it holds no load any more
            control.send("attach", id="load")
            assert "there is no job" in control.next()["message"]


def test_targets_and_the_relay_may_be_ipv6(binary: Path) -> None:
    try:
        server = Server(answering(identity()), host="::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with server, relay(binary) as (_, port), agents(binary, "six", options=("--join", f"[::1]:{port}")):
        plan = LoadPlan(targets=(Target("::1", server.port),), rate=100.0, connections=2, duration=0.5, warmup=0.0)
        result = Coordinator(plan, relay=("::1", port), expect=1).run()
    add_up(result)
    assert result.ok > 20
    assert list(result.per_target) == [f"[::1]:{server.port}"]


# ---- behind a relay ----


def test_generators_that_nobody_can_call_register_with_a_relay(binary: Path) -> None:
    with (
        NullServer(binary) as null,
        relay(binary) as (_, port),
        agents(binary, "left", "right", options=("--join", f"127.0.0.1:{port}")),
    ):
        plan = LoadPlan(targets=(Target("127.0.0.1", null.port),), rate=600.0, connections=4, duration=1.2, warmup=0.0)
        result = Coordinator(plan, relay=("127.0.0.1", port), expect=2).run()
    add_up(result)
    assert result.flags == ()
    assert {a.name for a in result.accounts} == {"left", "right"}
    assert all(a.ok > 100 for a in result.accounts)


def test_a_relay_that_dies_loses_nothing(binary: Path) -> None:
    """Generators keep what is not acknowledged; they and the coordinator call the relay again when it is back."""
    port = free_port()
    with NullServer(binary) as null, contextlib.ExitStack() as stack:
        first, _ = stack.enter_context(relay(binary, port))
        stack.enter_context(agents(binary, "left", "right", options=("--join", f"127.0.0.1:{port}")))
        again: list[object] = []

        def restart(burst: Burst) -> None:
            if not again:
                first.kill()
                first.wait()
                again.append(stack.enter_context(relay(binary, port)))

        plan = LoadPlan(targets=(Target("127.0.0.1", null.port),), rate=600.0, connections=4, duration=4.0, warmup=0.0)
        result = Coordinator(plan, relay=("127.0.0.1", port), expect=2).run(restart)
    add_up(result)
    assert result.flags == ()
    for account in result.accounts:
        assert account.state == "done"
        assert account.reconnects >= 1
        assert account.missing == ()


def test_a_name_that_registers_twice_is_refused_and_told(binary: Path) -> None:
    with (
        NullServer(binary) as null,
        relay(binary) as (_, port),
        agents(binary, "twin", options=("--join", f"127.0.0.1:{port}")),
    ):
        plan = LoadPlan(targets=(Target("127.0.0.1", null.port),), rate=100.0, connections=2, duration=2.0, warmup=0.0)
        with contextlib.ExitStack() as stack:

            def twin(burst: Burst) -> None:
                if not told:
                    told.append(burst)
                    stack.enter_context(agents(binary, "twin", options=("--join", f"127.0.0.1:{port}")))

            told: list[Burst] = []
            result = Coordinator(plan, relay=("127.0.0.1", port), expect=1).run(twin)
    add_up(result)
    assert result.accounts[0].state == "done"
    assert any("second process registered as generator twin" in f for f in result.flags)


def test_a_relay_without_generators_is_an_error_that_says_so(binary: Path) -> None:
    with relay(binary) as (_, port), pytest.raises(EngineError, match="nobody registered"):
        Coordinator(PLAN, relay=("127.0.0.1", port), expect=2, patience=0.5).run()
    with pytest.raises(EngineError, match="none was ready"):
        Coordinator(PLAN, [("g", ("127.0.0.1", free_port()))], patience=0.3).run()


def test_a_relay_takes_garbage_calmly(binary: Path) -> None:
    with relay(binary) as (process, port):
        for junk in (b"\xff\x00\n", b"hello\n", b'{"event":"register","name":"a b"}\n', b'{"event":"register"}\n', b"@x y\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(junk)
                assert connection.recv(1000)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"generators\n@nobody ping id=1\n")
            said = b""
            while said.count(b"\n") < 2:
                said += connection.recv(1000)
            assert b'"event":"relay"' in said
            assert b"@nobody " in said
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert process.poll() is None


# ---- generators that misbehave ----


def steady(seq: int) -> dict[str, object]:
    return frame_of([1_000_000 * (seq + 1)] * 50)


def test_repeats_are_ignored_and_gaps_are_asked_for(tmp_path: Path) -> None:
    twice, gappy = Generator(steady), Generator(steady)
    dropped: list[bytes] = []

    def drop_one(line: bytes) -> list[bytes]:
        if b'"seq":1,' in line and not dropped:
            dropped.append(line)
            return []
        return [line]

    twice.mangle = lambda line: [line, line]
    gappy.mangle = drop_one
    with Farm(twice, gappy) as farm:
        result = Coordinator(PLAN, farm.addresses).run()
    add_up(result)
    assert result.ok == 200  # two generators, two measured seconds, 50 each
    assert result.flags == ()
    assert result.accounts[0].repeats >= 4
    assert dropped
    assert any(verb == "attach" and words.get("since") == "1" for verb, words in gappy.asked)
    assert all(load.acked_end for g in (twice, gappy) for load in g.loads.values())


def test_a_second_that_never_comes_is_named() -> None:
    gappy = Generator(steady)
    gappy.mangle = lambda line: [] if b'"seq":1,' in line else [line]
    with Farm(gappy, Generator(steady)) as farm:
        gappy.forgets = True
        result = Coordinator(PLAN, farm.addresses).run()
    assert result.accounts[0].missing == (1,)
    assert any("g0: seconds 1 never came" in f for f in result.flags)
    assert result.ok == 200  # by its end, which came


JUNK = (
    b"\xff\xfe garbage\n",
    b'{"event":"second"}\n',
    b'{"event":"second","id":"x","seq":"one"}\n',
    b'["event"]\n',
    b'{"event":"done"}\n',
    b"null\n",
    b"[" * 5000 + b"\n",
)


def test_lines_that_cannot_be_read_are_named_and_the_rest_counts() -> None:
    odd = Generator(steady)
    odd.mangle = lambda line: [*JUNK, line]
    with Farm(odd, Generator(steady)) as farm:
        plan = msgspec.structs.replace(PLAN, duration=1.0, warmup=0.0)
        result = Coordinator(plan, farm.addresses).run()
    add_up(result)
    assert result.ok == 100
    assert any(f"generator g0 sent {3 * len(JUNK)} lines that can't be read" in f for f in result.flags)
    assert result.accounts[1].notes == ()


def test_a_histogram_of_another_make_is_odd_and_spoils_no_other() -> None:
    def foreign(seq: int) -> dict[str, object]:
        return steady(seq) | {"latency": "SElTVEZBQUFBRA=="}

    def beyond(seq: int) -> dict[str, object]:
        from hdrh.histogram import HdrHistogram

        return steady(seq) | {"raw": HdrHistogram(1, 3_600_000_000, 2).encode().decode()}

    with Farm(Generator(foreign), Generator(beyond), Generator(steady)) as farm:
        result = Coordinator(msgspec.structs.replace(PLAN, duration=1.0, warmup=0.0), farm.addresses).run()
    assert result.accounts[2].notes == ()
    assert int(hdr.decode(result.histogram).sum()) == 50
    assert all(any(f"generator {g} sent" in f for f in result.flags) for g in ("g0", "g1"))
    assert not any("g2" in f for f in result.flags)


def test_figures_that_contradict_each_other_are_named() -> None:
    def liar(seq: int) -> dict[str, object]:
        return steady(seq) | {"sent": 51}

    with Farm(Generator(liar), Generator(steady)) as farm:
        result = Coordinator(msgspec.structs.replace(PLAN, duration=1.0, warmup=0.0), farm.addresses).run()
    assert any("g0 does not add up" in f for f in result.flags)
    assert any("the sum does not add up" in f for f in result.flags)


def test_a_generator_that_comes_late_joins_at_a_full_second_and_is_named() -> None:
    late, early = Generator(steady), Generator(steady)
    late.port = free_port()
    plan = msgspec.structs.replace(PLAN, duration=4.0, warmup=1.0)
    with Farm(early) as farm, contextlib.ExitStack() as stack:
        addresses = [*farm.addresses, ("late", ("127.0.0.1", late.port))]

        def come(burst: Burst) -> None:
            if burst.generators == 1 and not late.asked and not came:
                came.append(burst)
                stack.enter_context(Farm(late))

        came: list[Burst] = []
        coordinator = Coordinator(plan, addresses, patience=0.5)
        result = coordinator.run(come)
    add_up(result)
    account = result.accounts[1]
    assert account.state == "done"
    assert 1 <= account.late <= 4.5
    assert any("generator late began" in f for f in result.flags)
    words = next(words for verb, words in late.asked if verb == "load")
    assert coordinator.timeline
    # Its seconds are the others' seconds, and its end is theirs.
    begun = int(words["start"]) / 1e9 - coordinator.timeline.start - share.phase_shift(plan, 1, 2)
    assert begun == pytest.approx(account.late, abs=1e-3)
    assert begun == pytest.approx(round(begun), abs=1e-3)
    assert account.late + float(words["warmup"][:-1]) + float(words["duration"][:-1]) == pytest.approx(5.0)
    # Rates are over the plan's time, not over its own shorter one: 50 a second of one, and of both while it was there.
    assert result.seconds == 4.0
    assert 200 < result.ok < 400
    assert result.offered_rps == pytest.approx(result.planned / 4)
    assert result.achieved_rps == pytest.approx(result.ok / 4)


@pytest.mark.parametrize("all_of_them", [False, True])
def test_rates_of_generators_that_were_stopped_are_not_overstated(binary: Path, all_of_them: bool) -> None:
    """Over the plan's time while anybody sends; over what there was of it where nobody does any more."""
    with NullServer(binary) as null, agents(binary, "a", "b") as running:
        target = Target("127.0.0.1", null.port)
        plan = LoadPlan(targets=(target,), rate=400.0, arrivals="constant", connections=4, duration=3.0, warmup=0.0)

        def stop(burst: Burst) -> None:
            for agent in running[not all_of_them :]:
                agent.process.terminate()

        result = Coordinator(plan, called(running)).run(stop)
    add_up(result)
    assert [f for f in result.flags if "g1 was stopped before its end" in f]
    if all_of_them:
        assert 1.0 <= result.seconds < 2.5
        assert result.offered_rps == pytest.approx(400, rel=0.02)
    else:
        assert result.seconds == 3.0
        assert 250 < result.offered_rps < 390
    assert result.offered_rps == pytest.approx(result.planned / result.seconds)
    assert result.achieved_rps == pytest.approx(result.ok / result.seconds, rel=0.02)


def test_one_that_never_comes_is_named_and_not_waited_for() -> None:
    with Farm(Generator(steady)) as farm:
        addresses = [*farm.addresses, ("nobody", ("127.0.0.1", free_port()))]
        result = Coordinator(msgspec.structs.replace(PLAN, duration=1.0), addresses, patience=0.3).run()
    assert result.ok == 50
    assert [a.state for a in result.accounts] == ["done", "absent"]
    assert any("generator nobody never came" in f for f in result.flags)


def test_a_clock_that_is_an_hour_off_does_not_matter() -> None:
    """The start is told by each generator's own clock, and times come back on ours."""
    ahead, behind = Generator(steady, offset=3600 * 10**9), Generator(steady, offset=-3600 * 10**9)
    seen: list[Burst] = []
    with Farm(ahead, behind) as farm:
        coordinator = Coordinator(msgspec.structs.replace(PLAN, duration=1.0), farm.addresses)
        result = coordinator.run(seen.append)
    assert coordinator.timeline
    assert result.flags == ()
    for generator, account, hour in ((ahead, result.accounts[0], 3600), (behind, result.accounts[1], -3600)):
        assert abs(account.offset - hour) < 0.1
        words = next(words for verb, words in generator.asked if verb == "load")
        assert abs(int(words["start"]) / 1e9 - hour - coordinator.timeline.start) < 0.1
    assert all(abs(b.at - now()) < 30 for b in seen)


def test_a_lost_connection_is_made_again_and_nothing_is_lost() -> None:
    flaky = Generator(steady)
    cut: list[int] = []

    def cutting(line: bytes) -> list[bytes]:
        if b'"seq":0,' in line and not cut:
            cut.append(1)
            flaky.hang_up()
            return []
        return [line]

    flaky.mangle = cutting
    with Farm(flaky, Generator(steady)) as farm:
        result = Coordinator(PLAN, farm.addresses).run()
    add_up(result)
    assert result.ok == 200
    assert result.flags == ()
    assert result.accounts[0].reconnects >= 1


def test_a_generator_whose_process_was_replaced_is_lost_not_asked_again() -> None:
    forgetful = Generator(steady)

    def forget(line: bytes) -> list[bytes]:
        if b'"seq":1,' in line:
            forgetful.loads.clear()
            forgetful.pid += 1
            forgetful.hang_up()
            forgetful.mangle = lambda line: []
            return []
        return [line]

    forgetful.mangle = forget
    with Farm(forgetful, Generator(steady)) as farm:
        result = Coordinator(PLAN, farm.addresses).run()
    add_up(result)
    assert result.accounts[0].state == "lost"
    assert "another took its place" in result.accounts[0].why


# ---- a coordinator that dies ----

SCRIPT = """
import sys, msgspec
from pathlib import Path
from coebench.contract import LoadPlan
from coebench.load.coordinator import Coordinator
plan = msgspec.json.decode(sys.argv[1], type=LoadPlan)
generators = [(n, tuple(a)) for n, a in msgspec.json.decode(sys.argv[2])]
def tell(burst):
    print(burst.phase, flush=True)
Coordinator(plan, generators, checkpoint=Path(sys.argv[3])).run(tell)
"""


def test_a_coordinator_that_is_killed_goes_on_where_it_was(binary: Path, tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    with NullServer(binary) as null, agents(binary, "a", "b") as running:
        plan = LoadPlan(targets=(Target("127.0.0.1", null.port),), rate=500.0, connections=4, duration=5.0, warmup=0.0)
        words = [msgspec.json.encode(plan).decode(), json.dumps(called(running)), str(file)]
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, *words], stdout=subprocess.PIPE, text=True)
        assert process.stdout
        told = [process.stdout.readline() for _ in range(3)]
        process.kill()
        process.wait()
        process.stdout.close()
        assert told == ["measured\n"] * 3
        seen: list[Burst] = []
        result = Coordinator.resume(file).run(seen.append)
    add_up(result)
    assert [f for f in result.flags if "coordinator was restarted" in f]
    assert len(result.flags) == 1
    assert all(a.state == "done" and a.missing == () for a in result.accounts)
    assert abs(result.offered_rps - 500) < 75  # Poisson: 2,500 of them, ±3 %, and six times that
    assert result.ok > 2000
    # Finished, the checkpoint still tells the same.
    again = Coordinator.resume(file).run()
    assert (again.ok, again.histogram) == (result.ok, result.histogram)


def test_a_checkpoint_that_cannot_be_used_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't read"):
        Coordinator.resume(tmp_path / "none")
    (tmp_path / "bad").write_text("{}")
    with pytest.raises(BadInput, match="not a load's checkpoint"):
        Coordinator.resume(tmp_path / "bad")


# ---- what each is asked ----


@pytest.mark.parametrize(
    ("targets", "connections", "of"), [(3, 24, 1), (3, 24, 5), (10, 7, 3), (4, 1000, 7), (1, 3, 3), (5, 5, 2)]
)
def test_shares_are_the_whole(targets: int, connections: int, of: int) -> None:
    plan = LoadPlan(
        targets=tuple(Target("10.0.0.1", 1000 + i) for i in range(targets)), rate=1000.0, connections=connections, threads=4
    )
    asked = [share.words(plan, i, of) for i in range(of)]
    assert sum(w["connections"] for w in asked) == connections
    assert sum(float(w["rate"]) for w in asked) == pytest.approx(1000)
    assert len({w["seed"] for w in asked}) == of
    assert all(w["threads"] <= w["connections"] for w in asked)
    # A generator spreads its connections over its targets in turn: how many does each target get?
    got = dict.fromkeys(range(targets), 0)
    for w in asked:
        ports = [int(t.rsplit(":", 1)[1]) - 1000 for t in w["targets"].split(",")]
        assert len(ports) == min(targets, w["connections"])
        for i in range(w["connections"]):
            got[ports[i % len(ports)]] += 1
    assert max(got.values()) - min(got.values()) <= 1


@pytest.mark.parametrize(
    ("plan", "generators", "says"),
    [
        (PLAN, 0, "at least one generator"),
        (PLAN, 5, "4 connections can't be spread over 5"),
        (msgspec.structs.replace(PLAN, targets=()), 1, "at least one target"),
        (msgspec.structs.replace(PLAN, rate=0.001), 2, "too few"),
        # The last of 100 would begin 99 s after the first, in a load of 2 s.
        (msgspec.structs.replace(PLAN, rate=1.0, connections=100), 100, "constant arrivals at 1 requests/s can't be interleaved"),
        (msgspec.structs.replace(PLAN, rate=2.0), 4, "can't be interleaved over 4 generators"),
        (msgspec.structs.replace(PLAN, rate=4.0, duration=0.5), 4, "can't be interleaved over 4 generators"),
    ],
)
def test_plans_that_cannot_be_spread_are_refused(plan: LoadPlan, generators: int, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Coordinator(plan, [(f"g{i}", ("127.0.0.1", 1)) for i in range(generators)])


@pytest.mark.parametrize(
    ("plan", "generators"),
    [
        (msgspec.structs.replace(PLAN, rate=4.0), 4),
        (msgspec.structs.replace(PLAN, rate=0.5), 1),
        (msgspec.structs.replace(PLAN, rate=1.0, connections=100, arrivals="poisson"), 100),
        (msgspec.structs.replace(PLAN, rate=0.0, connections=100), 100),
    ],
)
def test_a_slow_load_is_spread_where_it_can_be(plan: LoadPlan, generators: int) -> None:
    share.check(plan, generators)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(BadInput, match="two generators are called g"):
        Coordinator(PLAN, [("g", ("127.0.0.1", 1)), ("g", ("127.0.0.1", 2))])
