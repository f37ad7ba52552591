"""Errors: every mistake ends in one of the contract's errors, with a line that a user can act on."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from ..contract import (
    Access,
    BadInput,
    Capability,
    CoebenchError,
    EngineError,
    MissingService,
    Routing,
    Strategy,
    Unsupported,
)
from .bench import Bench
from .registry import Failed, behaviour, expect
from .stories import STEADY, steady

NOWHERE = "127.0.0.1:9"  # the discard service's port: refused where nobody runs it


@behaviour()
def unknown_services_are_missing(bench: Bench) -> None:
    """A scenario must be able to tell "it is gone" from "the engine has failed"."""
    spec = bench.spec("unknown")
    calls: dict[str, Callable[[], object]] = {
        "scale": lambda: bench.driver.scale(spec.name, 2),
        "progress": lambda: bench.driver.progress(spec.name),
    }
    if bench.support(Capability.UPDATE).ok:
        calls["update"] = lambda: bench.driver.update(spec, Strategy())
    for routing in Routing:
        if bench.support(Capability(routing.value)).ok:
            calls[f"reach {routing.value}"] = lambda r=routing: bench.driver.reach(spec.name, r)  # type: ignore[misc]
    for what, call in calls.items():
        try:
            call()
        except MissingService:
            continue
        except Exception as e:
            raise Failed(f"{what} of an unknown service: MissingService was due, not {type(e).__name__}: {e}") from e
        raise Failed(f"{what} of an unknown service was accepted; MissingService was due")
    expect(bench.driver.instances(spec.name) == (), "an unknown service has instances")
    expect(spec.name not in bench.driver.services(), "asking for an unknown service made it")


@behaviour()
def unknown_instances_are_errors(bench: Bench) -> None:
    """An instance may be gone by the time that somebody asks for its log or its end."""
    story = bench.story(steady)
    ghost = msgspec.structs.replace(story.instances[0], id="no-such-instance-0")
    for what, call, capability in (
        ("kill", lambda: bench.driver.kill(ghost), Capability.KILL),
        ("logs", lambda: bench.driver.logs(ghost), Capability.LOGS),
    ):
        if not bench.support(capability).ok:
            continue
        try:
            call()
        except EngineError as e:
            expect(str(e).strip(), f"{what} of an unknown instance fails without a word")
            continue
        except Exception as e:
            raise Failed(f"{what} of an unknown instance: EngineError was due, not {type(e).__name__}: {e}") from e
        raise Failed(f"{what} of an unknown instance was accepted")
    expect(len(bench.ready(story.spec.name)) == STEADY, "killing an unknown instance killed another")


@behaviour()
def bad_access_is_told(bench: Bench) -> None:
    """A wrong URL, an empty or a wrong credential: the first thing that goes wrong for everybody, and never a traceback."""
    for what, access in bad_accesses(bench.access):
        begun = time.monotonic()
        try:
            bench.connect(access).close()
        except (EngineError, BadInput) as e:
            expect("\n" not in str(e) and str(e).strip(), f"{what}: the error is not one line: {e}")
        except Exception as e:
            raise Failed(f"{what}: EngineError or BadInput was due, not {type(e).__name__}: {e}") from e
        else:
            raise Failed(f"{what}: connect() succeeded")
        expect(time.monotonic() - begun < 40, f"{what}: it took {time.monotonic() - begun:.0f} s to say so")


def bad_accesses(access: Access) -> Iterator[tuple[str, Access]]:
    """An access spoilt in every way that its kind allows, with what was done to it."""
    yield "an empty access", Access(coe=access.coe)
    replace = msgspec.structs.replace
    if access.url and not access.kubeconfig:
        yield "a URL where nobody listens", replace(access, url=f"{'https' if access.ca else 'http'}://{NOWHERE}", nodes={})
        yield "a URL that is none", replace(access, url="no url at all", nodes={})
    if access.nodes and not access.url:
        yield "nodes where nobody listens", replace(access, nodes=dict.fromkeys(access.nodes, f"http://{NOWHERE}"))
        yield "nodes whose URLs are none", replace(access, nodes=dict.fromkeys(access.nodes, "no url at all"))
    if access.kubeconfig:
        nowhere = re.sub(r"https?://[^\"'\s]+", f"https://{NOWHERE}", access.kubeconfig)
        yield "a kubeconfig that leads nowhere", replace(access, kubeconfig=nowhere)
        yield "a kubeconfig that is none", replace(access, kubeconfig="{ not: [a kubeconfig")
        yield "a kubeconfig without clusters", replace(access, kubeconfig="apiVersion: v1\nkind: Config\n")
        anonymous = re.sub(r"(client-certificate-data|client-key-data|token|password)", r"x-\1", access.kubeconfig)
        yield "a kubeconfig without its credentials", replace(access, kubeconfig=anonymous)
    if access.password:
        yield "a wrong password", replace(access, password=access.password + "x")
    if access.token:
        yield "a wrong token", replace(access, token=access.token + "x")
    if access.cert:
        yield "no certificate", replace(access, cert="", key="")


@behaviour()
def unknown_options_are_ignored(bench: Bench) -> None:
    """An access may come from a newer provisioner than the driver knows."""
    access = msgspec.structs.replace(bench.access, options={**bench.access.options, "coebench-unknown": "x"})
    driver = bench.connect(access)
    try:
        expect(driver.info().version == bench.driver.info().version, "it connected elsewhere")
    finally:
        driver.close()


@behaviour()
def closed_drivers_refuse(bench: Bench) -> None:
    """What is used after its end is a mistake to be told, neither a traceback nor a hidden new connection."""
    service = bench.story(steady).spec.name
    driver = bench.connect(bench.access)
    driver.close()
    driver.close()
    calls: dict[str, Callable[[], object]] = {
        "instances": lambda: driver.instances(service),
        "services": driver.services,
        "nodes": driver.nodes,
        "progress": lambda: driver.progress(service),
    }
    for what, call in calls.items():
        try:
            call()
        except CoebenchError:
            continue
        except Exception as e:
            raise Failed(f"{what}() of a closed driver: EngineError was due, not {type(e).__name__}: {e}") from e
        raise Failed(f"{what}() of a closed driver still answers")
    expect(len(bench.ready(service)) == STEADY, "closing one connection disturbed another")


@behaviour()
def eight_threads_may_ask_at_once(bench: Bench) -> None:
    """Scenarios, probers and displays share one driver."""
    story = bench.story(steady)
    wanted = sorted(i.id for i in story.instances)
    trouble: list[str] = []

    def ask(n: int) -> None:
        try:
            for _ in range(5):
                listed = sorted(i.id for i in bench.driver.instances(story.spec.name) if i.live)
                if listed != wanted:
                    trouble.append(f"listed {listed}")
                if story.spec.name not in bench.driver.services():
                    trouble.append("the service was not listed")
                if bench.driver.progress(story.spec.name).wanted != STEADY:
                    trouble.append("another number was wanted")
                if n % 4 == 0 and not bench.driver.nodes():
                    trouble.append("no nodes were listed")
        except Exception as e:
            trouble.append(f"{type(e).__name__}: {e}")

    threads = [threading.Thread(target=ask, args=(n,), daemon=True) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(timeout=60)
    expect(not any(t.is_alive() for t in threads), "some calls did not return within a minute")
    expect(not trouble, f"{len(trouble)} troubles; the first: {'; '.join(trouble[:3])}")


@behaviour()
def unsupported_tells_why(bench: Bench) -> None:
    """A routing that can't be had goes into the table with the reason that capabilities() gives."""
    service = bench.story(steady).spec.name
    for routing in Routing:
        support = bench.support(Capability(routing.value))
        if support.ok:
            continue
        try:
            bench.driver.reach(service, routing)
        except Unsupported as e:
            expect(e.reason == support.reason, f"{routing.value}: capabilities() says {support.reason!r}, reach() {e.reason!r}")
        else:
            raise Failed(f"routing {routing.value} is not claimed, and reach() gives it")
