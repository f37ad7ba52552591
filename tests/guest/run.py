"""The lab on a stock Debian that has nothing of this machine's: a test by hand, before a release (`make test-guest`).

    python tests/guest/run.py [trixie|bookworm] [mesos|swarm|k8s]…        # Debian 13 and all three if none is named

Needs root, the lab installed (coebench lab install k8s swarm mesos), 6 GB of memory and 10 GB of disk. The machine is emulated in
software and has what a user's has: systemd, cgroup v2, a kernel that is all modules, the lab's cache and its state on two file
systems. In it: doctor; for each engine a bay, one service that answers, down, clean, and a comparison of what the machine looks
like before and after. Exit code 1 if anything of that fails. Times are those of an emulated machine: for orientation only.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import machine
from machine import COES, REPO, SUITES, Machine

from coebench.contract import BadInput, CoebenchError

MEMORY = "6G"
STEP_TIMEOUT = 1800  # seconds, of the lab's steps
PATIENCE = 2400  # seconds that one command in the machine may take
LOGS = REPO / "test-guest"
LOOK = (Path(__file__).parent / "look.sh").read_text()

# Each prints the answer's body between two marks: of the instance itself, then by the engine's virtual addresses. `x` runs a
# command on a bay's host (coebench lab exec), `reach` waits for a command's success.
HEAD = r"""
cd /root/coebench
COEBENCH=.venv/bin/coebench
reach() { n=0; until out=$("$@" 2>&1); do n=$((n + 1)); [ $n -lt 60 ] || return 1; sleep 3; done; }
body() { echo "@$1"; shift; reach x "$@"; echo "$out"; echo "@$(date +%s)"; }
"""
ASK = {
    "mesos": r"""
x() { $COEBENCH lab exec mesos "$@"; }
api=http://10.77.0.1:8080/v2/apps
x curl -sS -m 120 -H 'Content-Type: application/json' $api -o /dev/null -d '{"id": "/guest", "instances": 1,
  "cpus": 0.05, "mem": 32, "container": {"type": "MESOS", "docker": {"image": "coebench-http:v1"}},
  "portDefinitions": [{"port": 0, "protocol": "tcp", "name": "main"}]}'
port() { x curl -sS -m 120 $api/guest/tasks | sed -n 's/.*"ports":\[\([0-9]*\)\].*"TASK_RUNNING".*/\1/p' | grep .; }
reach port
body instance curl -fsS -m 60 "http://10.77.1.1:$(port)/"
""",
    "swarm": r"""
x() { $COEBENCH lab exec swarm "$@"; }
x docker network create -d overlay guest
x docker service create -dq --name guest --network guest --endpoint-mode vip --publish mode=host,published=8082,target=8080 \
  --publish published=8081,target=8080 coebench-http:v1
body instance curl -fsS -m 60 http://10.77.1.1:8082/
[ -e /proc/net/ip_vs ] || { echo 'this kernel has no ip_vs: no virtual addresses'; exit 0; }
body published curl -fsS -m 60 http://10.77.0.1:8081/
all=$(x docker service inspect -f '{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}' guest)
address=$(echo $all | tr ' ' '\n' | sed -n 's|/.*||p' | tail -1)
echo "virtual addresses, the last is asked: $all"
body virtual n1: sh -c "docker exec \$(docker ps -qf name=guest) wget -qO- http://$address:8080/"
""",
    "k8s": r"""
x() { $COEBENCH lab exec k8s "$@"; }
x kubectl create deployment guest --image=coebench-http:v1
x kubectl expose deployment guest --port=80 --target-port=8080
pod() { x kubectl get pods -o 'jsonpath={.items[0].status.podIP}' | grep .; }
reach pod
body instance curl -fsS -m 60 "http://$(pod):8080/"
body virtual n1: curl -fsS -m 60 "http://$(x kubectl get service guest -o 'jsonpath={.spec.clusterIP}')/"
x kubectl get nodes,pods -o wide
""",
}


@dataclass
class Row:
    """What was seen of an engine. Times in seconds; `bodies`: way → what answered."""

    coe: str
    up: float | None = None
    answer: float | None = None
    down: float | None = None
    bodies: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Run:
    def __init__(self, suite: str, coes: tuple[str, ...]) -> None:
        self.suite, self.coes = suite, coes
        self.begun = time.monotonic()
        self.failed: list[str] = []
        LOGS.mkdir(exist_ok=True)
        self.log = open(LOGS / f"{suite}.log", "w")  # noqa: SIM115

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self.begun:6.0f} s  {text}"
        print(line, flush=True)
        self.note(line)

    def note(self, text: str) -> None:
        self.log.write(text.rstrip() + "\n")
        self.log.flush()

    def do(self, guest: Machine, command: str, timeout: float = PATIENCE) -> tuple[int, str, float]:
        """Run a command in the machine. Returns exit status, what it wrote, and seconds."""
        begun = time.monotonic()
        p = guest.run(command, timeout)
        took = time.monotonic() - begun
        self.note(f"--- {took:.1f} s, status {p.returncode}: {command.strip()[:200]}\n{p.stdout}")
        return p.returncode, p.stdout, took

    def coebench(self, guest: Machine, words: str) -> tuple[int, str, float]:
        return self.do(guest, f"cd /root/coebench && .venv/bin/coebench {words}")

    def look(self, guest: Machine) -> set[str]:
        begun = time.monotonic()
        p = guest.run(LOOK, PATIENCE)
        if p.returncode:
            raise BadInput(f"the machine can't be looked at: {p.stdout[-500:]}")
        self.note(f"--- {time.monotonic() - begun:.1f} s: looked at the machine, {len(p.stdout.splitlines())} lines")
        return set(p.stdout.splitlines())

    def run(self) -> int:
        machine.tools(self.say)
        system, cache = machine.disk(self.suite), machine.cache_disk()
        disks = system.ensure(self.say), cache.ensure(self.say)
        self.say("starting the machine (emulated: about a minute)")
        with machine.started(*disks, LOGS / f"{self.suite}.console", MEMORY) as guest:
            _, told, _ = self.do(
                guest, '. /etc/os-release; echo "$PRETTY_NAME, Linux $(uname -r), $(stat -fc %T /sys/fs/cgroup)"'
            )
            self.say(f"it is up: {told.strip()}, coebench {machine.commit()[:12]}")
            before = self.look(guest)
            status, told, took = self.coebench(guest, "doctor")
            left, news = difference(before, self.look(guest))
            self.failed += [f"doctor: left over: {line}" for line in left]
            self.say(f"doctor: status {status}, {took:.0f} s; {_loaded(news)}")
            if status or any(line.startswith("no ") for line in told.splitlines()):
                self.failed.append(f"doctor: status {status}\n{told}")
            rows = [self.engine(guest, coe) for coe in self.coes]
        return self.table(rows)

    def engine(self, guest: Machine, coe: str) -> Row:
        row = Row(coe)
        before = self.look(guest)
        status, told, row.up = self.coebench(guest, f"lab up {coe} --nodes 1 --step-timeout {STEP_TIMEOUT}")
        if status:
            row.up = None
            row.failed.append(f"lab up: status {status}: {_end(told)}")
            self.do(guest, f"tail -n 30 ~/.local/state/coebench/lab/failed/{coe}/*/*.log")
        else:
            self.say(f"{coe}: bay up in {row.up:.0f} s")
            self.ask(guest, row)
            status, told, row.down = self.coebench(guest, f"lab down {coe}")
            if status:
                row.failed.append(f"lab down: status {status}: {_end(told)}")
        status, told, _ = self.coebench(guest, "clean")
        if status or "nothing was left" not in told:
            row.failed.append(f"clean: status {status}: {_end(told)}")
        for _ in range(3):  # the kernel takes away cgroups and namespaces in its own time
            row.left, news = difference(before, self.look(guest))
            if not row.left:
                break
            time.sleep(10)
        down = f"down in {row.down:.0f} s, " if row.down is not None else ""
        self.say(f"{coe}: {down}left over: {len(row.left) or 'nothing'}; {_loaded(news)}")
        for line in row.left:
            self.say(f"{coe}: {line}")
        return row

    def ask(self, guest: Machine, row: Row) -> None:
        """Have one instance answer, and the engine's own addresses for it."""
        begun = float(self.do(guest, "date +%s")[1])
        status, told, _ = self.do(guest, HEAD + ASK[row.coe])
        row.bodies, ends = bodies(told)
        if "instance" in ends:
            row.answer = ends["instance"] - begun
            self.say(f"{row.coe}: an instance answers {row.answer:.0f} s after it was asked for")
        for way, body in row.bodies.items():
            if not body:
                row.failed.append(f"no answer: {way}")
        if status or not row.bodies:
            row.failed.append(f"the service: status {status}: {_end(told)}")
            self.coebench(guest, f"lab logs {row.coe} -n 40")

    def table(self, rows: list[Row]) -> int:
        answers = {body for row in rows for body in row.bodies.values() if body}
        if len(answers) > 1:
            self.failed.append("the engines' services do not answer the same")
        lines = [f"{'engine':<8}{'bay up':>10}{'answer':>10}{'down':>10}  {'answered':<30}left over"]
        for row in rows:
            times = "".join(f"{'-' if t is None else f'{t:.0f} s':>10}" for t in (row.up, row.answer, row.down))
            lines.append(
                f"{row.coe:<8}{times}  {', '.join(w for w, b in row.bodies.items() if b) or '-':<30}{len(row.left) or 'nothing'}"
            )
        self.failed += [f"{row.coe}: {text}" for row in rows for text in row.failed]
        self.failed += [f"{row.coe}: left over: {line}" for row in rows for line in row.left]
        lines += ["", *(f"FAILED: {text}" for text in self.failed)]
        minutes = (time.monotonic() - self.begun) / 60
        lines.append(f"{'failed' if self.failed else 'passed'} in {minutes:.0f} min; the log is {self.log.name}")
        print("\n" + "\n".join(lines))
        self.note("\n".join(lines))
        return 1 if self.failed else 0


def bodies(told: str) -> tuple[dict[str, str], dict[str, float]]:
    """Way → body, and way → when it had come (seconds since the epoch): what stands between "@WAY" and "@TIME"."""
    found: dict[str, str] = {}
    ends: dict[str, float] = {}
    way = ""
    for line in told.splitlines():
        if not line.startswith("@"):
            found[way] = found.get(way, "") + line + "\n" if way else ""
        elif line[1:].isdigit():
            if found.setdefault(way, ""):
                ends[way] = float(line[1:])
            way = ""
        else:
            way = line[1:]
    found.pop("", None)
    return {way: body if body.startswith("coebench") else "" for way, body in found.items()}, ends


def difference(before: set[str], after: set[str]) -> tuple[list[str], list[str]]:
    """What differs, and the modules that were loaded. A setting that came with a module is the module's."""
    had = {line.split(":")[0] for line in before}
    changed = [f"gone: {line}" for line in sorted(before - after)]
    for line in sorted(after - before):
        came_with_module = line.startswith("sysctl") and line.split(":")[0] not in had
        if not line.startswith("module") and not came_with_module:
            changed.append(f"new: {line}")
    changed = [line for line in changed if not line.startswith("gone: module")]
    return changed, sorted(line.split()[1] for line in after - before if line.startswith("module"))


def _loaded(modules: list[str]) -> str:
    return f"modules that it loaded: {', '.join(modules) or 'none'}"


def _end(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-3:])[-400:]


def main(words: list[str]) -> int:
    suites = [word for word in words if word in SUITES]
    coes = tuple(word for word in words if word in COES)
    if unknown := [word for word in words if word not in (*SUITES, *COES)]:
        print(f"test-guest knows {', '.join((*SUITES, *COES))}, not {', '.join(unknown)}", file=sys.stderr)
        return 2
    try:
        return Run((suites or [SUITES[0]])[0], coes or COES).run()
    except CoebenchError as e:
        print(f"test-guest: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
