"""Services: deploying, scaling, removing."""

from __future__ import annotations

import contextlib

import msgspec

from ..contract import Capability, CoebenchError, Conflict, Health, InstanceState, Routing
from .bench import START, Bench
from .registry import Failed, behaviour, expect
from .stories import ARGUMENTS, CHURN, FLAPPING, ODD, STEADY, churn, full, steady, stubborn, talk, twice

BAD_NAMES = ("", "/", ".", "..", "a/b", "UPPER", "under_score", "two words", "-begins", "ends-", "ü", "a.b", "*", "x" * 41)


@behaviour()
def deployed_instances_answer(bench: Bench) -> None:
    """The first thing that every scenario rests on: N asked for, N answer, each at the address that the driver tells."""
    story = bench.story(steady)
    expect(len(story.instances) == STEADY, f"{len(story.instances)} are ready, {STEADY} were asked for")
    for i in story.instances:
        reply = bench.eyes.fetch(i.address or "", i.port or 0)
        expect(reply.status == 200, f"{i.id} at {i.address}:{i.port} answers {reply.status}: {reply.body[:200]}")


@behaviour()
def progress_says_done(bench: Bench) -> None:
    """The engine's own account is recorded beside every figure: it must be about what was asked for."""
    service = bench.story(steady).spec.name
    progress = bench.until(
        lambda: p if (p := bench.driver.progress(service)).done else None, "done", lambda: bench.told(service), timeout=20
    )
    assert progress
    expect(progress.wanted == STEADY and progress.ready == STEADY, f"{progress.ready} of {progress.wanted}, not {STEADY}")
    expect(not progress.blocked, f"it is done, and blocked all the same: {progress.blocked}")


@behaviour()
def existing_name_is_a_conflict(bench: Bench) -> None:
    """A second deployment under one name would measure the first one's instances."""
    story = bench.story(steady)
    before = {i.id for i in bench.ready(story.spec.name)}
    other = bench.other_version(story.spec, instances=1)
    try:
        bench.driver.deploy(other)
    except Conflict:
        pass
    else:
        raise Failed("deploying under a name that is taken was accepted; Conflict was due")
    bench.never(
        lambda: {i.id for i in bench.driver.instances(story.spec.name) if i.live} ^ before, 1.0, "the refused deployment changed"
    )
    expect(bench.driver.progress(story.spec.name).wanted == STEADY, "the refused deployment changed the number that is wanted")


@behaviour()
def services_lists_ours(bench: Bench) -> None:
    """`clean` works from this list: it must have all that is ours, by our names, and nothing else."""
    story = bench.story(steady)
    listed = bench.driver.services()
    expect(len(set(listed)) == len(listed), f"a name is listed twice: {listed}")
    expect({story.spec.name, bench.eyes.service} <= set(listed), f"{story.spec.name} is deployed, and not in {listed}")
    odd = [s for s in listed if not s.startswith("cf-")]
    expect(not odd, f"not ours, or not by our name: {odd}")


@behaviour()
def removal_is_idempotent(bench: Bench) -> None:
    """Clean-up runs after failures that left anything, or nothing: asking once more must never be an error."""
    bench.begin(twice, stubborn, churn)  # what takes longest, at the same time
    bench.story(twice)


@behaviour()
def removal_is_seen_to_its_end(bench: Bench) -> None:
    """A bay is at its baseline only when the instances are gone, not when the engine has forgotten the service."""
    story, took = bench.story(churn), bench.story(stubborn).took
    expect(took > 2.0, f"an instance that ignores SIGTERM was no longer listed after {took:.2f} s of its 3 s of grace")
    expect(took < 20.0, f"an instance that ignores SIGTERM was listed for {took:.1f} s, with 3 s of grace")
    expect(not [i for i in story.removed if i.live], "instances of a removed service are still told as live")


@behaviour()
def names_can_be_used_again(bench: Bench) -> None:
    """Trials deploy the same service again and again: a new life must not show the old one's instances."""
    story = bench.story(churn)
    expect(len(story.again) == 1, "the second life of the name did not become ready")
    expect(story.again[0].id not in story.before, "an instance of the second life has an id of the first")


@behaviour()
def scales_up_and_down(bench: Bench) -> None:
    """Scaling is a scenario, and must disturb only as many instances as it adds or takes."""
    stages = bench.story(churn).stages
    for stage, count in enumerate(CHURN, 1):
        expect(len(stages[stage]) == count, f"scaled to {count}, {len(stages[stage])} were ready")
    expect(set(stages[0]) <= set(stages[1]), "scaling up replaced the instance that was there")
    expect(set(stages[2]) <= set(stages[1]), "scaling down started new instances")


@behaviour()
def scales_to_zero_and_back(bench: Bench) -> None:
    """Nothing is a number too: the service stays, without instances, and can be given some again."""
    stages = bench.story(churn).stages
    expect(stages[3] == (), f"scaled to 0, {stages[3]} stayed")
    expect(not set(stages[4]) & set(stages[1]), "instances that were gone came back with their old ids")


@behaviour()
def last_number_wins(bench: Bench) -> None:
    """A scenario may change its mind while the engine still works on the number before."""
    story = bench.story(churn)
    expect(len(story.flapped) == FLAPPING[-1], f"scaled to {FLAPPING} at once, {len(story.flapped)} stayed")


@behaviour()
def variables_arrive_unchanged(bench: Bench) -> None:
    """Engines, shells and templates in between expand what they take for theirs: a workload's settings must not change."""
    heard = bench.story(talk).heard
    for name, value in ODD.items():
        expect(heard[name] == value, f"{name} was {value!r} and arrived as {heard[name]!r}")


@behaviour()
def commands_and_arguments_arrive_unchanged(bench: Bench) -> None:
    """The generator's own arguments are given this way."""
    wanted = "".join(f"[{a}]" for a in ARGUMENTS)
    expect(bench.story(talk).arguments == wanted, f"arguments {wanted} arrived as {bench.story(talk).arguments}")


@behaviour()
def instances_are_told_who_they_are(bench: Bench) -> None:
    """An answer names the instance that gave it only if the instance knows; it listens on the port it is told."""
    story = bench.story(talk)
    expect(story.heard["COEBENCH_VERSION"] == story.spec.version, f"COEBENCH_VERSION is {story.heard['COEBENCH_VERSION']!r}")
    expect(story.heard["COEBENCH_PORT"] == str(story.instance.port), f"COEBENCH_PORT is {story.heard['COEBENCH_PORT']!r}")
    expect(story.heard["COEBENCH_INSTANCE"] == story.instance.id, f"COEBENCH_INSTANCE is {story.heard['COEBENCH_INSTANCE']!r}")


@behaviour(Capability.RESERVE)
def memory_is_reserved(bench: Bench) -> None:
    """Density and placement mean nothing if the engine does not know what an instance needs."""
    _reserved(bench, "memory")


@behaviour(Capability.RESERVE)
def cpu_is_reserved(bench: Bench) -> None:
    """As with memory: two that need over half a node each can't share it."""
    _reserved(bench, "cpu")


def _reserved(bench: Bench, kind: str) -> None:
    story = bench.story(full)
    placed = story.placed[kind]
    nodes = [i.node for i in placed]
    expect(len(placed) == story.nodes, f"{story.nodes} fit, one on each node; {len(placed)} were placed (on {nodes})")
    expect(len(set(nodes)) == len(nodes), f"two that need over half of a node's {kind} were placed on one: {nodes}")


@behaviour(Capability.RESERVE)
def impossible_placement_is_said(bench: Bench) -> None:
    """A scenario that waits for what can't be must end with the engine's words, not with a timeout."""
    for kind, progress in bench.story(full).progress.items():
        expect(progress.blocked, f"one instance does not fit ({kind}), and progress().blocked is empty; said: {progress.said!r}")
        expect(not progress.done, f"one instance does not fit ({kind}), and progress() says done")


@behaviour(Capability.HEALTH)
def bad_health_is_not_ready_and_is_replaced(bench: Bench) -> None:
    """HEALTH claims that the engine itself looks: what fails its check must not be called ready, and must not stay."""
    health = Health(path="/no-such-page", interval=1.0, timeout=1.0, failures=2)
    spec = bench.spec("sick", 1, health=health)
    with bench.diary(spec.name) as diary:
        bench.deploy(spec)
        started: set[str] = set()

        def restarted() -> bool:
            for i in diary.now().values():
                if i.live and i.address and i.port:
                    with contextlib.suppress(CoebenchError):
                        if when := bench.eyes.fetch(i.address, i.port, timeout=1.0).started:
                            started.add(when)
            return len(started) > 1

        bench.until(restarted, "an unhealthy instance to be replaced", lambda: bench.told(spec.name), every=0.2)
        ready = [c.instance.id for c in diary.changes if c.instance.state is InstanceState.READY]
    bench.remove(spec.name)
    expect(not ready, f"{ready} were called ready although their health path does not exist")


@behaviour()
def published_instances_are_reached_from_outside(bench: Bench) -> None:
    """The harness itself stays outside the bay and must reach the prober and the generators."""
    i = bench.eyes.instance
    assert i.published
    expect(bench.eyes.agent.ask("ping", id="clock")["event"] == "pong", f"{i.published} does not answer")
    if i.address and i.port:
        reply = bench.eyes.fetch(i.address, i.port, "/healthz")
        expect(reply.status == 200, f"it is published at {i.published}, but inside {i.address}:{i.port} answers {reply.status}")


@behaviour(Capability.ENDPOINTS)
def endpoints_are_the_instances(bench: Bench) -> None:
    """Generators spread over these addresses by themselves; one too many or too few is an error rate or a lie."""
    story = bench.story(steady)
    reach = bench.driver.reach(story.spec.name, Routing.ENDPOINTS)
    wanted = {(i.address, i.port) for i in bench.ready(story.spec.name)}
    expect(reach.routing is Routing.ENDPOINTS, f"endpoints were asked for, {reach.routing} came")
    expect(set(reach.targets) == wanted, f"endpoints {set(reach.targets)} are not the instances' {wanted}")
    expect(reach.how, "how they are reached is not said")


@behaviour(Capability.NATIVE)
def native_address_reaches_all(bench: Bench) -> None:
    """A virtual IP that leads to one instance alone measures that instance."""
    _reaches_all(bench, Routing.NATIVE)


@behaviour(Capability.PROXY)
def proxy_reaches_all(bench: Bench) -> None:
    """A proxy that leads to one instance alone measures that instance, too."""
    _reaches_all(bench, Routing.PROXY)


def _reaches_all(bench: Bench, routing: Routing) -> None:
    story = bench.story(steady)
    reach = bench.driver.reach(story.spec.name, routing)
    expect(reach.targets and reach.how, "no target, or not said how it is reached")
    answered: set[str] = set()
    wanted = {i.id for i in story.instances}

    def all_answered() -> bool:
        for address, port in reach.targets:
            answered.add(bench.eyes.fetch(address, port).instance)
        return wanted <= answered

    bench.until(all_answered, f"all of {wanted} to answer through {reach.targets}", lambda: f"only {answered} did", timeout=30)
    again = bench.driver.reach(story.spec.name, routing)
    expect(again == reach, f"asked twice, it is reached at {reach.targets}, then at {again.targets}")


@behaviour()
def impossible_names_harm_nobody(bench: Bench) -> None:
    """An empty or odd name in a request's path can mean "all of them": clean-up must never reach beyond its service."""
    story = bench.story(steady)
    before = {i.id for i in bench.ready(story.spec.name)}
    for name in BAD_NAMES:
        try:
            bench.driver.deploy(msgspec.structs.replace(story.spec, name=name))
        except Conflict as e:
            raise Failed(f"the name {name!r} can't be a service's, and deploying it is a Conflict: {e}") from e
        except CoebenchError as e:
            expect(str(e).strip(), f"the name {name!r} is refused without a word")
        else:
            with contextlib.suppress(CoebenchError):
                bench.driver.remove(name)
            raise Failed(f"the name {name!r} is no DNS label of at most 40 characters, and was accepted")
        for call in (bench.driver.remove, bench.driver.instances, bench.driver.progress):
            with contextlib.suppress(CoebenchError):
                call(name)
    for letter in "abcdefghijklmnopqrstuvwxyz0123456789":  # an engine may take it for the beginning of an id
        bench.driver.remove(letter)
        expect(bench.driver.instances(letter) == (), f"a service '{letter}' is unknown, and has instances")
    bench.never(
        lambda: before - {i.id for i in bench.driver.instances(story.spec.name) if i.live},
        1.0,
        "removing other names took instances away",
    )
    expect(bench.eyes.service in bench.driver.services(), "removing other names took another service away")


@behaviour()
def refused_deployment_leaves_nothing(bench: Bench) -> None:
    """What failed halfway must not stay behind under a name that is then taken, or must at least be removable."""
    spec = bench.spec("refused", 1, image="not an image!!:::")
    try:
        bench.deploy(spec)
    except CoebenchError as e:
        expect(not isinstance(e, Conflict) and str(e).strip(), f"an impossible image is refused as {type(e).__name__}: {e}")
        expect(spec.name not in bench.driver.services(), "a deployment that was refused is listed")
    bench.driver.remove(spec.name)
    bench.wait_gone(spec.name)
    good = msgspec.structs.replace(spec, image=f"{bench.workload.image}:{bench.workload.versions[0]}", command=(START,))
    bench.deploy(good)
    bench.wait_ready(good.name, 1)
    bench.remove(good.name)
