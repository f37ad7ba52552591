"""`coebench loadgen coordinator`: several generators as one, on hosts of one's own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import finite

if TYPE_CHECKING:
    from ..contract import Burst, LoadResult, Target
    from ..load.coordinator import Coordinator

URL = re.compile(r"http://(\[[0-9a-fA-F:%.]+\]|[^/:?#@\[\],]+)(?::(\d+))?(/[^#]*)?$")
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n]*\Z")
STATUS = re.compile(r"([1-5]xx|[1-5]\d\d)\Z")


def coordinator(
    urls: Annotated[list[str] | None, typer.Argument(help="http://HOST[:PORT]/PATH to ask; all with the same path.")] = None,
    generator: Annotated[list[str] | None, typer.Option(help="HOST:PORT of a `coebench loadgen agent`; once for each.")] = None,
    relay: Annotated[str, typer.Option(help="HOST:PORT of a relay with which generators register (with --expect).")] = "",
    listen: Annotated[int, typer.Option(help="Port of a relay that is run here for them (with --expect).")] = 0,
    expect: Annotated[int, typer.Option(help="Generators that are to register.")] = 0,
    rate: Annotated[float, typer.Option(callback=finite, help="Requests a second of all generators together.")] = 0.0,
    closed: Annotated[bool, typer.Option("--closed", help="Each connection sends when its last answer is in.")] = False,
    arrivals: Annotated[str, typer.Option(help="constant or poisson.")] = "poisson",
    method: Annotated[str, typer.Option(help="GET, or POST where there is a --body.", show_default=False)] = "",
    header: Annotated[list[str] | None, typer.Option(help="'Name: value', to send along; once for each.")] = None,
    body: Annotated[str, typer.Option(help="To send along.")] = "",
    expect_status: Annotated[str, typer.Option(help="Of a good answer: 2xx, or one such as 404.")] = "2xx",
    expect_version: Annotated[str, typer.Option(help="Of the service, that a good answer tells.")] = "",
    expect_body: Annotated[str, typer.Option(help="Text that a good answer's body has.")] = "",
    connections: Annotated[int, typer.Option(help="Of all generators together.")] = 32,
    threads: Annotated[int, typer.Option(help="Of each generator.")] = 1,
    duration: Annotated[float, typer.Option(callback=finite, help="Measured seconds.")] = 10.0,
    warmup: Annotated[float, typer.Option(callback=finite, help="Seconds before that.")] = 2.0,
    timeout: Annotated[float, typer.Option(callback=finite, help="Seconds until a request is given up.")] = 5.0,
    patience: Annotated[float, typer.Option(callback=finite, help="Seconds to wait for all generators.")] = 30.0,
    checkpoint: Annotated[Path | None, typer.Option(help="File from which a coordinator that was killed goes on.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from --checkpoint; nothing else is needed.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The result as one JSON object.")] = False,
) -> None:
    """Send one load from several generators that start together; their histograms are merged, each is accounted for.

    Exit code 1 if a generator was lost, late or odd: the figures are printed with what they lack.
    """
    from ..contract import BadInput, LoadPlan
    from ..load import secret
    from ..load.coordinator import Coordinator

    if arrivals not in ("constant", "poisson"):
        raise BadInput(f"--arrivals is constant or poisson, not {arrivals!r}")
    word = secret.given()
    if listen and not word:
        raise BadInput(
            f"whoever registers first with --listen would be measured: set {secret.VARIABLE} here and for the generators, "
            "to what you draw with: openssl rand -hex 16"
        )
    with contextlib.ExitStack() as stack:
        if resume:
            if not checkpoint:
                raise BadInput("--resume wants the file: --checkpoint FILE")
            if urls or generator or relay:
                raise BadInput("--resume goes on with the plan of the checkpoint: leave the URLs and generators out")
            if listen:
                stack.enter_context(_relay(listen, word))
            job = Coordinator.resume(checkpoint, word)
        else:
            if closed == bool(rate):
                raise BadInput("either --rate R or --closed")
            if rate < 0 or duration <= 0 or warmup < 0 or timeout <= 0:
                raise BadInput("--rate, --duration and --timeout are more than 0, --warmup at least 0")
            if sum(map(bool, (generator, relay, listen))) != 1:
                raise BadInput("name the generators: --generator HOST:PORT for each, or --relay or --listen with --expect N")
            if bool(generator) == bool(expect):
                raise BadInput("--expect N goes with --relay and --listen, and is needed there")
            if wrong := [h for h in header or [] if not HEADER.match(h)]:
                raise BadInput(f"--header {wrong[0]!r} is not 'Name: value'")
            if not STATUS.match(expect_status):
                raise BadInput(f"--expect-status is 2xx or the like, or one such as 404, not {expect_status!r}")
            targets, path = _targets(urls or [])
            plan = LoadPlan(
                targets=targets,
                path=path,
                method=method or ("POST" if body else "GET"),
                headers=tuple(header or ()),
                body=body,
                expect_status=expect_status,
                expect_version=expect_version,
                expect_body=expect_body,
                rate=rate,
                arrivals=arrivals,
                connections=connections,
                threads=threads,
                duration=duration,
                warmup=warmup,
                timeout=timeout,
                generators=expect or len(generator or []),
            )
            called = [(g, _address(g)) for g in generator or []]
            behind = _address(relay) if relay else None
            if listen:
                behind = ("127.0.0.1", listen)
            job = Coordinator(plan, called, relay=behind, expect=expect, patience=patience, checkpoint=checkpoint, secret=word)
            if listen:
                stack.enter_context(_relay(listen, word))
        result = _run(job, quiet=json)
    _print(result, json)
    if result.flags:
        raise typer.Exit(1)


def _run(job: Coordinator, quiet: bool) -> LoadResult:
    def tell(b: Burst) -> None:
        if b.phase == "drain":
            return
        p99 = f"{b.latency_ms['p99']:.3f} ms" if b.latency_ms else "-"
        failed = sum(b.errors.values())
        text = f"{b.phase}: planned {b.planned}, good {b.ok}, errors {failed}, p99 {p99}, {b.generators} generators"
        print(text, file=sys.stderr, flush=True)

    return job.run(None if quiet else tell)


def _print(r: LoadResult, as_json: bool) -> None:
    if as_json:
        import msgspec

        print(msgspec.json.encode(r).decode())
        return
    done = sum(a.state == "done" for a in r.accounts)
    print(f"{done} of {len(r.accounts)} generators, {r.seconds:.1f} s")
    print(f"  offered  {r.offered_rps:14.1f} requests/s\n  achieved {r.achieved_rps:14.1f} requests/s")
    print(f"  good {r.ok}, errors {sum(r.errors.values())}, unsent {r.unsent}, unanswered {r.inflight}")
    for kind, count in sorted(r.errors.items()):
        print(f"    {kind:<20} {count}")
    for name, figures in (("latency", r.latency_ms), ("raw", r.raw_ms), ("send lag", r.lag_ms)):
        if figures:
            print(f"  {name + ', ms':<14}" + "".join(f" {p} {v:.3f}" for p, v in figures.items()))
    clocks = [abs(a.offset) for a in r.accounts if a.state == "done"]
    if clocks:
        worst = max(a.uncertainty for a in r.accounts)
        print(f"  clocks up to {1e3 * max(clocks):.3f} ms apart from ours, known to {1e3 * worst:.3f} ms; {r.cpu:.2f} cores")
    if r.saturated:
        print(f"  A generator was at its limit, so the figures are lower bounds: {r.saturated}")
    for flag in r.flags:
        print(f"  ! {flag}")


@contextlib.contextmanager
def _relay(port: int, word: str) -> Iterator[None]:
    from ..contract import BadInput
    from ..load import native, secret

    command = [str(native.program()), "relay", "--port", str(port)]
    env = {**os.environ, secret.VARIABLE: word}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout and process.stderr
        if "listening" not in process.stdout.readline():
            raise BadInput(f"--listen {port}: {process.stderr.read().strip() or 'the relay did not start'}")
        yield
    finally:
        process.terminate()
        process.wait()


def _address(text: str) -> tuple[str, int]:
    from ..contract import BadInput

    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadInput(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def _targets(urls: list[str]) -> tuple[tuple[Target, ...], str]:
    from ..contract import BadInput, Target

    if not urls:
        raise BadInput("name at least one URL to ask")
    targets: list[Target] = []
    paths: list[str] = []
    for url in urls:
        if url.startswith("https://"):
            raise BadInput(f"{url}: TLS is not supported; give an http:// URL")
        m = URL.match(url)
        if not m or not 0 < int(m[2] or 80) < 65536:
            raise BadInput(f"{url!r} is not http://HOST[:PORT]/PATH")
        targets.append(Target(m[1].strip("[]"), int(m[2] or 80)))
        paths.append(m[3] or "/")
    if len(set(paths)) > 1:
        raise BadInput(f"all URLs of a load have the same path, not {paths[0]} and {next(p for p in paths if p != paths[0])}")
    return tuple(targets), paths[0]
