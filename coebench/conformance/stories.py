"""Deployments that several behaviours look at: what happened is noted once, each behaviour judges one part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..contract import Capability, Change, CoebenchError, Instance, InstanceState, Progress, ServiceSpec, Strategy, now
from .bench import START, TOLERANT, Bench
from .eyes import Reply, Seen
from .registry import Failed

STEADY = 3
SLOW_START = 1.5  # seconds from an instance's start until it begins to listen
CHURN = (3, 1, 0, 2)
FLAPPING = (4, 1, 5, 0, 3, 2)
ODD = {
    "ODD_DOLLAR": "$HOME $(COEBENCH_PORT) ${PORT0} $$ $",
    "ODD_QUOTES": "a'b\"c`d\\e",
    "ODD_SPACES": "  two  spaces\tand a tab ",
    "ODD_UNICODE": "Überraschung ☃ 日本",
    "ODD_EQUALS": "a=b=c",
    "ODD_LINES": "first\nsecond\n\nfourth",
    "ODD_BRACES": "{{.Task.ID}} {{ 1 }} }} {%",
    "ODD_EMPTY": "",
    "ODD_PERCENT": "%s %20 %%",
}
ARGUMENTS = ("two words", "$HOME", "$(COEBENCH_PORT)", "a'b\"c", "*", "", "back\\slash", ";exit 3", "ünï", "{{.Task.ID}}")


class Steady(msgspec.Struct, frozen=True):
    """Three instances that nobody disturbs. Their check is of /healthz, and they are slow to listen."""

    spec: ServiceSpec
    before: Change | None  # what the watch told while the service did not exist
    asked: float
    changes: Sequence[Change]
    instances: tuple[Instance, ...]
    seen: Sequence[Seen]


def steady(bench: Bench) -> Steady:
    """Watched from before it exists until all are ready and answer."""
    eyes = bench.eyes
    spec = bench.spec(
        "steady", STEADY, health=TOLERANT, command=("/bin/sh", "-c", f"sleep {SLOW_START}; exec {START}"), env={"GREETING": "yes"}
    )
    with bench.driver.watch(spec.name) as watch:
        before = watch.next(0.3)
    with bench.diary(spec.name) as diary, eyes.look() as look:
        asked = now()
        bench.deploy(spec)

        def fact(current: Any) -> bool:
            for i in current.values():
                look.add(i)
            ready = {k for k, i in current.items() if i.state is InstanceState.READY}
            return len(ready) == STEADY

        diary.wait(fact, f"{STEADY} ready instances")
        ids = set(diary.now())
        bench.until(lambda: ids <= look.up(), "every ready instance to answer", lambda: f"{sorted(look.up())} do")
        return Steady(spec, before, asked, list(diary.changes), bench.wait_ready(spec.name, STEADY), list(look.seen))


class Churn(msgspec.Struct, frozen=True):
    """A service scaled to 1, 3, 1, 0, 2, then to many numbers without a pause, then removed and deployed again."""

    spec: ServiceSpec
    stages: dict[int, tuple[str, ...]]  # by stage: 0 the beginning, then CHURN's: the ids that were ready
    flapped: tuple[Instance, ...]
    faults: list[str]
    told: frozenset[str]  # what the watch last told of, after the flapping
    listed: frozenset[str]  # what the listing says
    most: int  # the number of changes that were told
    removed: tuple[Instance, ...]  # what was still told when removal had settled
    again: tuple[Instance, ...]
    before: frozenset[str]  # every id that the first life had


def churn(bench: Bench) -> Churn:
    """Followed by a watch all the way."""
    spec = bench.spec("churn", 1)
    with bench.diary(spec.name) as diary:
        bench.deploy(spec)
        stages = {0: tuple(i.id for i in diary.wait_ready(1))}
        for stage, count in enumerate(CHURN, 1):
            bench.driver.scale(spec.name, count)
            stages[stage] = tuple(i.id for i in diary.wait_ready(count))
        for count in FLAPPING:
            bench.driver.scale(spec.name, count)
        flapped = bench.wait_ready(spec.name, FLAPPING[-1])

        def agreed() -> tuple[frozenset[str], frozenset[str]] | None:
            told = frozenset(k for k, i in diary.now().items() if i.live)
            listed = frozenset(i.id for i in bench.driver.instances(spec.name) if i.live)
            return (told, listed) if told == listed and len(told) == FLAPPING[-1] else None

        try:
            told, listed = bench.until(agreed, "watch and listing to agree", timeout=15)
        except Failed:
            told = frozenset(k for k, i in diary.now().items() if i.live)
            listed = frozenset(i.id for i in bench.driver.instances(spec.name) if i.live)
        bench.driver.remove(spec.name)
        diary.wait(lambda c: all(i.state is InstanceState.ENDED for i in c.values()), "the end of every instance")
        removed = tuple(diary.now().values())
        bench.wait_gone(spec.name)
        faults, most = diary.faults(), len(diary.changes)
        before = frozenset(c.instance.id for c in diary.changes)
    bench.deploy(spec)
    again = bench.wait_ready(spec.name, 1)
    bench.remove(spec.name)
    return Churn(spec, stages, flapped, faults, told, listed, most, removed, again, before)


class Stubborn(msgspec.Struct, frozen=True):
    """An instance that ignores SIGTERM, with three seconds of grace."""

    took: float  # seconds from asking for its removal until it was told as ended


def stubborn(bench: Bench) -> Stubborn:
    """It answers before it is removed, so that it surely ignores by then."""
    script = f"trap '' TERM; {START} & while :; do sleep 0.2; done"
    spec = bench.spec("stubborn", 1, grace=3.0, command=("/bin/sh", "-c", script))
    bench.deploy(spec)
    (instance,) = bench.wait_ready(spec.name, 1)
    bench.until(lambda: bench.eyes.fetch(instance.address or "", instance.port or 0).status == 200, "it to run")
    with bench.diary(spec.name) as diary:
        diary.wait(lambda c: instance.id in c, "the instance")
        asked = now()
        bench.driver.remove(spec.name)
        diary.wait(lambda c: all(i.state is InstanceState.ENDED for i in c.values()), "the instance's end")
        return Stubborn(now() - asked)


def twice(bench: Bench) -> None:
    """A service removed before it is there, while it is, while it goes, and when it is gone."""
    spec = bench.spec("twice")
    bench.driver.remove(spec.name)
    bench.deploy(spec)
    bench.wait_ready(spec.name, 1)
    bench.driver.remove(spec.name)
    bench.driver.remove(spec.name)
    bench.wait_gone(spec.name)
    bench.driver.remove(spec.name)


class Update(msgspec.Struct, frozen=True):
    """Three instances, updated to the second version while they are asked, then to an image that does not exist."""

    first: tuple[Instance, ...]
    second: tuple[Instance, ...]
    replies: tuple[Reply, ...]  # of the second
    extra: tuple[str, ...]  # what the second say of a variable that only the first version had
    least: int  # the smallest number that answered at once during the update
    wanted: int  # what the engine said was wanted, after
    done: bool
    words: tuple[str, ...]  # what the engine said of the missing image
    least_bad: int  # the smallest number that answered at once while that update failed
    still: frozenset[str]  # who answered then
    faults: list[str]


def update(bench: Bench) -> Update:
    """A rolling update with surge 1 and nobody unavailable; its spec names another number of instances, in vain."""
    eyes = bench.eyes
    command = ("/bin/sh", "-c", f'echo "${{EXTRA-none}}" > /srv/extra; exec {START}')
    spec = bench.spec("update", 3, health=TOLERANT, command=command, env={"EXTRA": "first"})
    with bench.diary(spec.name) as diary, eyes.look() as look:

        def following(current: Any) -> bool:
            for i in current.values():
                look.add(i)
            return sum(i.state is InstanceState.READY for i in current.values()) == 3

        bench.deploy(spec)
        diary.wait(following, "3 ready instances")
        first = bench.wait_ready(spec.name, 3)
        bench.until(lambda: {i.id for i in first} <= look.up(), "every ready instance to answer")

        other = bench.other_version(spec, env={}, instances=1)
        begun = now()
        bench.driver.update(other, Strategy(surge=1, unavailable=0))

        def replaced(current: Any) -> bool:
            following(current)
            live = [i for i in current.values() if i.live]
            good = [i for i in live if i.version == other.version and i.state is InstanceState.READY]
            return len(live) == len(good) == 3

        diary.wait(replaced, "3 ready instances of the new version and none of the old")
        second = bench.wait_ready(spec.name, 3)
        bench.until(lambda: {i.id for i in second} <= look.up(), "every new instance to answer")
        ended = now()
        try:
            done = bench.until(lambda: bench.driver.progress(spec.name).done, "progress to say done", timeout=20)
        except Failed:
            done = False
        progress = bench.driver.progress(spec.name)
        replies = tuple(eyes.fetch(i.address or "", i.port or 0) for i in second)
        extra = tuple(eyes.fetch(i.address or "", i.port or 0, "/extra").body.strip() for i in second)

        missing = msgspec.structs.replace(other, image=f"coebench-no-such-{bench.token}:v9", version="v9")
        began_bad = now()
        words: tuple[str, ...] = ()
        try:
            bench.driver.update(missing, Strategy(surge=1, unavailable=0))
            words = bench.until(lambda: tuple(_words(bench, spec.name, second)), "words about the missing image", timeout=45)
        except (Failed, CoebenchError) as e:  # refusing it at once is an answer too
            words = () if isinstance(e, Failed) else (str(e),)
        bench.until(lambda: now() - began_bad > 3, "three seconds to pass")
        still = look.up()
        least_bad = look.least(began_bad, now())
        faults = diary.faults()
        bench.remove(spec.name)
        return Update(
            first, second, replies, extra, look.least(begun, ended), progress.wanted, done, words, least_bad, still, faults
        )


def _words(bench: Bench, service: str, old: Sequence[Instance]) -> list[str]:
    """What the engine says of those that do not start."""
    known = {i.id for i in old}
    said = [i.reason for i in bench.driver.instances(service) if i.id not in known]
    p = bench.driver.progress(service)
    return [w for w in (*said, p.said, p.blocked) if f"coebench-no-such-{bench.token}" in w]


class Talk(msgspec.Struct, frozen=True):
    """One instance with a command, odd arguments and odd variables, that writes to its output."""

    spec: ServiceSpec
    instance: Instance
    heard: dict[str, str]  # variable → value, as the instance's process had it
    arguments: str  # each argument in brackets
    log: str
    last: str  # its last line alone


def talk(bench: Bench) -> Talk:
    """The instance writes what it was given into files that it then serves."""
    names = " ".join(ODD) + " COEBENCH_PORT COEBENCH_VERSION COEBENCH_INSTANCE"
    script = (
        f'for n in {names}; do eval "v=\\$$n"; printf \'%s\' "$v" > /srv/env-$n; done; '
        'for a in "$@"; do printf \'[%s]\' "$a"; done > /srv/arguments; '
        f"echo to-stdout-{bench.token}; echo to-stderr-{bench.token} >&2; echo last-{bench.token}; exec {START}"
    )
    spec = bench.spec("talk", 1, command=("/bin/sh", "-c", script, "name", *ARGUMENTS), env=ODD)
    bench.deploy(spec)
    (instance,) = bench.wait_ready(spec.name, 1)
    bench.until(lambda: bench.eyes.fetch(instance.address or "", instance.port or 0).status == 200, "it to answer")

    def get(path: str) -> str:
        reply = bench.eyes.fetch(instance.address or "", instance.port or 0, path)
        return reply.body if reply.status == 200 else f"(status {reply.status})"

    heard = {n: get(f"/env-{n}") for n in names.split()}
    log = last = ""
    if bench.support(Capability.LOGS).ok:
        wanted = [f"to-stdout-{bench.token}", f"to-stderr-{bench.token}", f"last-{bench.token}"]

        def whole() -> bool:
            nonlocal log
            log = bench.driver.logs(instance)
            return all(w in log for w in wanted)

        try:
            bench.until(whole, "the log to hold what was written", timeout=15, every=0.3)
            last = bench.driver.logs(instance, 1)
        except Failed:
            pass
    return Talk(spec, instance, heard, get("/arguments"), log, last)


class Full(msgspec.Struct, frozen=True):
    """A service that reserves over half of each node's memory (or CPU), one instance more than there are nodes."""

    nodes: int
    placed: dict[str, tuple[Instance, ...]]  # "memory", "cpu" → the ready ones
    progress: dict[str, Progress]


def full(bench: Bench) -> Full:
    """Both at once: neither takes what the other needs."""
    nodes = [n for n in bench.driver.nodes() if n.ready and n.schedulable]
    count = len(nodes) + 1
    memory = int(0.6 * min(n.memory for n in nodes)) >> 20 << 20
    cpu = round(0.6 * min(n.cpu for n in nodes), 2)
    specs = {
        "memory": bench.spec("mem", count, memory=memory, cpu=0.01),
        "cpu": bench.spec("cpu", count, cpu=cpu, memory=16 << 20),
    }
    placed, progress = {}, {}
    for spec in specs.values():
        bench.deploy(spec)
    for kind, spec in specs.items():

        def settled(spec: ServiceSpec = spec) -> bool:
            return len(bench.ready(spec.name)) >= len(nodes) and bool(bench.driver.progress(spec.name).blocked)

        try:
            bench.until(settled, "placement", lambda s=spec: bench.told(s.name), timeout=30)  # type: ignore[misc]
        except Failed:
            pass  # the behaviours say what is wrong
        placed[kind], progress[kind] = bench.ready(spec.name), bench.driver.progress(spec.name)
    for spec in specs.values():
        bench.remove(spec.name)
    return Full(len(nodes), placed, progress)
