"""A stock Debian 12 and a stock Debian 13 with git and make, and nothing else: a clone is set up there, and the unit tests pass.

The trees are made as the lab makes its own, and kept in its cache. A copy is entered in namespaces of its own, so that nothing
is left of it. Of this machine it has the network, the certificates, and the settings of pip and apt.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coebench.contract import BadInput
from coebench.lab import install, paths, trees
from coebench.lab.cache import remove

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
ENTER = Path(__file__).with_name("enter.sh")
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
CLONE = "git clone --quiet /mnt/source /root/coebench && git -C /root/coebench log -1 --format=%H"
COMPILERS = "cc gcc g++ c++ clang tcc musl-gcc go rustc as ld"
# In two halves at once: most of their time is waiting.
UNIT_TESTS = """
cd /root/coebench
half() {  # a shell lets what it starts with & ignore Ctrl-C, and tests of Ctrl-C would, too
  files=$(ls tests/unit/test_*.py | awk "NR % 2 == $1")
  env --default-signal=INT,QUIT .venv/bin/pytest $files -q -p no:cacheprovider -rfEs --color=no > /tmp/half-$1
}
half 0 & first=$!
half 1 && second=0 || second=$?
wait $first && first=0 || first=$?
cat /tmp/half-0 /tmp/half-1
exit $((first + second))
"""
# Reasons for which a unit test may be skipped there, and nothing else.
REASONS = (
    r"the generator is built from C and there is no gcc",
    r"neither musl-gcc, gcc, clang nor cc is installed",
    r"no C compiler",
    r"(the fuzzer|it) is built with gcc and make",
    r"(wrk|wrk and gcc) (is|are) (not installed|needed)",
    r"no java, or no .*",
    r"no lab here.*",
    r"this checkout can't be read by another user",
    r"needs root, and cgroup v2.*",
)


@dataclass(frozen=True)
class Stock:
    """A Debian, and the Python that comes with it."""

    suite: str
    version: str
    python: str


STOCKS = (Stock("bookworm", "12", r"3\.11\.2"), Stock("trixie", "13", r"3\.13\.\d+"))


def environment() -> dict[str, str]:
    """Of this one, how pip is to reach its index, and proxies."""
    passed = {k: v for k, v in os.environ.items() if k.startswith("PIP_") or k.lower().endswith("_proxy")}
    passed.pop("PIP_CONFIG_FILE", None)  # brought as /etc/pip.conf
    return {
        **passed,
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "GIT_CONFIG_COUNT": "1",  # the clone's source may belong to another user
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }


def bring(tree: Path, suite: str) -> None:
    """Put the machine's settings of network, certificates, pip and apt into a tree."""
    certificates = Path("/usr/local/share/ca-certificates")
    files = {Path("/etc/resolv.conf"): "etc/resolv.conf", Path("/etc/hosts"): "etc/hosts", Path("/", BUNDLE): BUNDLE}
    files |= {file: str(file)[1:] for file in certificates.rglob("*.crt")}
    pip = (
        Path("/etc/pip.conf"),
        Path("/etc/xdg/pip/pip.conf"),
        Path.home() / ".config/pip/pip.conf",
        Path.home() / ".pip/pip.conf",
    )
    files |= {Path(os.environ.get("PIP_CONFIG_FILE") or next(filter(Path.is_file, pip), pip[0])): "etc/pip.conf"}
    if own := os.environ.get("PIP_CERT"):
        files |= {Path(own): own[1:]}
    for source, target in files.items():
        if source.is_file():
            (tree / target).parent.mkdir(parents=True, exist_ok=True)
            (tree / target).unlink(missing_ok=True)
            shutil.copy(source, tree / target)  # what a link leads to
    (tree / "etc/apt/sources.list").write_text("".join(f"{source.line()}\n" for source in trees.sources(suite)))
    (tree / "etc/apt/apt.conf.d/99machine").write_text("".join(f"{line}\n" for line in trees.apt_settings()))


class Machine:
    """A copy of a tree that commands are run in."""

    def __init__(self, tree: Path, source: Path) -> None:
        self.tree, self.source = tree, source

    def run(self, script: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a shell's commands; all that they start ends with them."""
        alone = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")
        command = [*alone, "sh", str(ENTER), str(self.tree), str(self.source), "sh", "-ec", script]
        return subprocess.run(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )

    def out(self, script: str) -> str:
        """What they print. They must not fail."""
        p = self.run(script)
        assert p.returncode == 0, f"{script}: {p.stdout[-6000:]}\n{p.stderr[-2000:]}"
        return p.stdout


@pytest.fixture(scope="module", params=STOCKS, ids=lambda s: f"debian-{s.version}")
def stock(request: pytest.FixtureRequest) -> Stock:
    found: Stock = request.param
    return found


@pytest.fixture(scope="module")
def machine(stock: Stock) -> Iterator[Machine]:
    try:
        install.check_machine()
    except BadInput as e:
        if os.environ.get("CI") or os.environ.get("COEBENCH_TEST_LAB"):
            raise
        pytest.skip(f"no lab here: {e}")
    kept = trees.debian(f"fresh-{stock.suite}", "minbase", ("git", "make"), stock.suite).ensure(print)
    paths.state().mkdir(parents=True, exist_ok=True)
    for left in paths.state().glob("fresh-*"):  # of a test that was killed
        if not Path("/proc", left.name.split("-")[1]).exists():
            remove(left)
    with tempfile.TemporaryDirectory(prefix=f"fresh-{os.getpid()}-", dir=paths.state()) as folder:
        tree, source = Path(folder, "tree"), Path(folder, "source.git")
        subprocess.run(["cp", "-a", "--reflink=auto", str(kept), str(tree)], check=True)
        subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(source)], check=True)
        bring(tree, stock.suite)
        yield Machine(tree, source)
    assert folder not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Onto the terminal, whatever pytest keeps: how long things took is worth knowing of a test that passed, too."""

    def tell(text: str) -> None:
        with capfd.disabled():
            print(text, flush=True)

    return tell


def test_a_clone_is_set_up_and_its_unit_tests_pass(stock: Stock, machine: Machine, told: Callable[[str], None]) -> None:
    assert machine.out(". /etc/os-release; echo $VERSION_ID").strip() == stock.version
    assert machine.out(f"command -v {COMPILERS} python3 perl || true").split() in ([], ["/usr/bin/perl"])
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert machine.out(CLONE) == head

    begun = time.monotonic()
    p = machine.run("cd /root/coebench && make setup")
    seconds = time.monotonic() - begun
    assert p.returncode == 0, p.stdout + p.stderr
    told(f"\nDebian {stock.version}: make setup took {seconds:.0f} s")
    lines = p.stdout.splitlines()
    assert all(line.startswith("setup:") for line in lines), p.stdout
    assert p.stderr == ""
    assert re.search(r"setup: coebench \S+ is ready in \.venv/bin", lines[-1])
    assert machine.out("cd /root/coebench && make setup") == "setup: ready in .venv\n"
    assert machine.out("git -C /root/coebench status --porcelain") == ""

    python = machine.out("/root/coebench/.venv/bin/python -c 'import platform; print(platform.python_version())'").strip()
    assert re.fullmatch(stock.python, python)
    assert machine.out(f"command -v {COMPILERS} || true") == ""  # nothing brought one along
    assert machine.out("/root/coebench/.venv/bin/python -m pip check").strip() == "No broken requirements found."
    report = machine.out("cd /root/coebench && .venv/bin/coebench report docs/example-run")
    assert "Docker Swarm" in report

    begun = time.monotonic()
    p = machine.run(UNIT_TESTS)
    ends = [line for line in p.stdout.splitlines() if re.search(r" passed.* in [\d.]+s", line)]
    told(f"Debian {stock.version}: the unit tests took {time.monotonic() - begun:.0f} s: {' and '.join(ends)}")
    assert p.returncode == 0, p.stdout[-12000:] + p.stderr[-2000:]
    assert len(ends) == 2
    skips: dict[str, int] = {}
    for count, reason in re.findall(r"^SKIPPED \[(\d+)\] [^ ]+: (.*)$", p.stdout, re.M):
        skips[reason] = skips.get(reason, 0) + int(count)
    for reason, number in sorted(skips.items(), key=lambda pair: -pair[1]):
        told(f"Debian {stock.version}: {number} skipped: {reason}")
    unknown = [reason for reason in skips if not any(re.fullmatch(known, reason) for known in REASONS)]
    assert not unknown
