"""Debian trees: the root file system of every host, and the tree that everything is compiled in.

Both are made by mmdebstrap, run out of its unpacked package: nothing is installed on the machine. Packages come from the
machine's own mirror if that is Debian's, through the machine's apt configuration (`mirror`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..contract import BadInput
from . import mirror, paths
from .cache import Artefact, Say, held, key, locked

SUITE = "bookworm"
RETRIES = 5  # of each package's download
_children: set[subprocess.Popen[Any]] = set()

# What hosts run, by who needs it. One tree for all engines: a host is the same whatever runs on it.
HOST_PACKAGES = (
    *("docker.io", "containerd", "runc"),  # swarm; containerd and runc for kubernetes too
    *(
        "etcd-server",
        "containernetworking-plugins",
        "conntrack",
        "ebtables",
        "ethtool",
        "ipset",
        "socat",
        "kubernetes-client",
    ),
    *("libsvn1", "libapr1", "libaprutil1", "libserf-1-1", "libutf8proc2", "libcurl4", "python3"),  # mesos
    *("iproute2", "iptables", "tini", "kmod", "procps", "curl"),  # every host
    *("nginx-light", "haproxy", "wrk", "hey", "nghttp2-client", "iperf3", "sockperf", "busybox"),  # taken into images
)
BUILD_PACKAGES = (
    *(
        "golang-1.19-go",
        "golang-1.19-src",
        "gcc",
        "g++",
        "libc6-dev",
        "musl-tools",
        "make",
        "patch",
        "dpkg-dev",
        "binutils",
    ),
    "python3-minimal",
)


def host_tree() -> Artefact:
    """The tree below every host."""
    return debian("host-tree", "minbase", HOST_PACKAGES)


def build_tree() -> Artefact:
    """The tree with the compilers; apt variant, so that dpkg-source is whole."""
    return debian("build-tree", "apt", BUILD_PACKAGES)


def debian(name: str, variant: str, packages: tuple[str, ...], suite: str = SUITE) -> Artefact:
    """A tree of a suite's packages and what they need, in the cache as NAME. `variant` as mmdebstrap's."""

    def build(work: Path, out: Path, say: Say) -> None:
        lines = "".join(f"{source.line()}\n" for source in sources(suite, say))
        say(f"building {name} of Debian's packages")
        # in a pid namespace, so that all its helpers end with it
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = [*alone, "perl", str(_mmdebstrap(work, say)), "--mode=root", f"--variant={variant}"]
        command += [f'--aptopt=Acquire::Retries "{RETRIES}"']  # one of hundreds of packages may be cut off
        command += [f"--aptopt={setting}" for setting in apt_settings()]
        command += ["--include=" + ",".join(packages), suite, str(out), "-"]
        run(command, cwd=work, stdin=lines, suite=suite)
        (out / "build").mkdir(exist_ok=True)
        (out / "opt").mkdir(exist_ok=True)

    return Artefact(name, key(suite, variant, *packages, "2"), build)


def _mmdebstrap(work: Path, say: Say) -> Path:
    """The program that makes trees: the machine's own, or that of its distribution's package, or of the trees' suite."""
    if own := shutil.which("mmdebstrap"):
        return Path(own)
    tool = work / "tool"
    tool.mkdir(exist_ok=True)
    offered = subprocess.run(["apt-cache", "show", "mmdebstrap"], capture_output=True).returncode == 0
    download(("mmdebstrap",), work, "" if offered else SUITE, say)
    for deb in work.glob("mmdebstrap_*.deb"):
        run(["dpkg-deb", "-x", str(deb), str(tool)])
    return tool / "usr/bin/mmdebstrap"


def in_tree(tree: Path, work: Path, command: list[str], log: Path, say: Say, ro: dict[str, Path] | None = None) -> None:
    """Run a command in a tree, without network, with `work` at /build and each of `ro` shown read-only.

    Lines of its output that begin with "step " are told; all goes to `log`. Mounts live in a namespace of their own.
    """
    script = ["mount --make-rprivate /", f'mount --bind "{work}" "{tree}/build"', f'mount -t proc proc "{tree}/proc"']
    for inside, outside in (ro or {}).items():
        script += [f'mkdir -p "{work}/{inside}"', f'mount --bind "{outside}" "{tree}/build/{inside}"']
    script.append(f'exec chroot "{tree}" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/build LC_ALL=C.UTF-8 "$@"')
    argv = [
        "unshare",
        "--mount",
        "--pid",
        "--net",
        "--fork",
        "--kill-child",
        "sh",
        "-ec",
        "\n".join(script),
        "sh",
        *command,
    ]
    with open(log, "ab") as f, child(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as p:
        assert p.stdout
        for line in p.stdout:
            f.write(line)
            f.flush()
            if line.startswith(b"step "):
                say(line[5:].decode(errors="replace").strip())
    if p.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise BadInput(f"building failed ({' '.join(command)}); the log is {log}; its end:\n{tail}")


def sources(suite: str = SUITE, say: Say = lambda _: None, fetch: bool = True) -> list[mirror.Source]:
    """The sources of a suite of Debian: the user's named ones, the machine's own, or the same mirror's. Fetches the machine's
    package lists if it has none; without `fetch`, none is the answer then. Raises BadInput if no source is Debian's."""
    if given := os.environ.get(mirror.MIRROR, "").strip():
        return mirror.named(suite, given)
    if found := mirror.derived(suite, _configured()):
        return found
    with locked(paths.cache() / "apt.lock", say, "another coebench is fetching the package lists: waiting"):
        if fetch and not _configured().strip():  # a fresh container image has no lists
            say("apt-get update")
            run(["apt-get", "update", "-qq"])
    if found := mirror.derived(suite, configured := _configured()):
        return found
    if not configured.strip() and not fetch:
        return []
    raise BadInput(
        f"apt has no source of Debian here, and the lab's hosts are made of Debian {suite}: name a mirror, such as "
        f"{mirror.MIRROR}=https://HOST/debian"
    )


def _configured() -> str:
    """A line for each list of packages that apt has; `mirror.derived` reads it."""
    form = "$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(COMPONENT)|$(ORIGIN)"
    return run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])


def apt_settings() -> list[str]:
    """How the machine's apt reaches mirrors (proxies, certificates, whether an index may be past its date), as apt.conf lines:
    mmdebstrap asks a tree's apt, not the machine's."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until")
    lines = [line for name in wanted for line in run(["apt-config", "dump", "--no-empty", name]).splitlines()]
    return [line for line in lines if re.match(r"[\w:.-]+ \".*\";$", line)]


def download(packages: tuple[str, ...], folder: Path, suite: str = "", say: Say = lambda _: None) -> None:
    """Fetch packages' .deb files into a folder: a suite's, or, with "", the machine's own."""
    base = _apt(suite, folder, say) if suite else ["apt-get", "-o", "APT::Sandbox::User=root"]
    command = [*base, "download", "-qq", *packages]
    try:
        run(command, cwd=folder, suite=suite)
    except BadInput:
        if suite:
            raise
        with locked(paths.cache() / "apt.lock", lambda _: None, ""):
            run(["apt-get", "update", "-qq"])  # lists older than the mirror's content
        run(command, cwd=folder)


def download_source(package: str, version: str, folder: Path, say: Say = lambda _: None) -> None:
    """Fetch a source package's files into a folder; the machine's own apt sources need no deb-src line."""
    run(
        [*_apt(SUITE, folder, say, "deb-src"), "source", "-qq", "--download-only", f"{package}={version}"],
        cwd=folder,
        suite=SUITE,
    )


def _apt(suite: str, folder: Path, say: Say, kind: str = "deb") -> list[str]:
    """The command of an apt that knows a suite alone, with fresh lists of its own below a folder."""
    apt = folder / "apt"
    for sub in ("lists/partial", "cache/archives/partial", "parts"):
        (apt / sub).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text("".join(f"{source.line(kind)}\n" for source in sources(suite, say)))
    options = [
        f"Dir::Etc::SourceList={apt}/sources.list",
        f"Dir::Etc::SourceParts={apt}/parts",
        f"Dir::Cache={apt}/cache",
        f"Dir::State::Lists={apt}/lists",
        f"Dir::State::Status={apt}/status",
        "APT::Sandbox::User=root",
        "Acquire::Languages=none",
        "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false",
        f"Acquire::Retries={RETRIES}",
    ]
    base = ["apt-get", *(word for option in options for word in ("-o", option))]
    run([*base, "update", "-qq", "--error-on=any"], suite=suite)
    return base


@contextlib.contextmanager
def child(command: list[str], **how: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program that builds: it ends with this process, however that ends, and with an exception in here; and it holds what
    locks we hold."""
    argv = ["setpriv", "--pdeathsig", "KILL", *command]
    with held() as locks:
        started = subprocess.Popen(argv, pass_fds=locks, **how)
    with started as p:
        _children.add(p)
        try:
            yield p
        except BaseException:
            p.kill()  # a Ctrl-C reaches it by itself, at a terminal; a SIGTERM to us does not
            raise
        finally:
            _children.discard(p)


def end_children() -> None:
    """End the programs that other threads wait for."""
    for p in tuple(_children):
        p.kill()


def run(command: list[str], cwd: Path | None = None, stdin: str | None = None, suite: str = "") -> str:
    """Run a command to its end and return what it wrote. Raises BadInput with the end of its errors and, where apt's words for
    it are known, what to do; `suite` is what was asked of a mirror."""
    if not shutil.which(command[0]):
        raise BadInput(f"{command[0]} is not on this machine, and the lab needs it")
    how: dict[str, Any] = {"stdin": subprocess.PIPE} if stdin is not None else {}
    with child(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", **how) as p:
        out, err = p.communicate(stdin)
    if p.returncode:
        lines = mirror.redacted(err).strip().splitlines()
        told = [line for line in lines if line.startswith(("E: Failed to fetch", "Err:"))][:2]  # apt's own reason is far above
        tail = " / ".join([*told, *lines[-4:]])
        what = mirror.redacted(" ".join(command[:6]))
        if mend := mirror.explained(err, f"Debian {suite}" if suite else "this machine's own suite"):
            reason = told[0] if told else next((x for x in lines if x.startswith(("E:", "W:"))), lines[-1] if lines else "")
            raise BadInput(f"{mend} (apt: {reason})")
        raise BadInput(f"'{what}…' failed: {tail}")
    return str(out)
