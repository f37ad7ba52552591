"""Debian trees: the root file system of every host, and the tree that everything is compiled in.

Both are made by mmdebstrap, run out of its unpacked package: nothing is installed on the machine. Packages come from the
machine's own apt sources (Debian 12's), through its own apt configuration.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..contract import BadInput
from . import paths
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


def debian(name: str, variant: str, packages: tuple[str, ...]) -> Artefact:
    """A tree of Debian packages and what they need, in the cache as NAME. `variant` as mmdebstrap's."""

    def build(work: Path, out: Path, say: Say) -> None:
        apt_update(say)
        say(f"building {name} of Debian's packages")
        download(("mmdebstrap",), work)
        tool = work / "tool"
        tool.mkdir(exist_ok=True)
        for deb in work.glob("mmdebstrap_*.deb"):
            run(["dpkg-deb", "-x", str(deb), str(tool)])
        # in a pid namespace, so that all its helpers end with it
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = [*alone, "perl", str(tool / "usr/bin/mmdebstrap"), "--mode=root", f"--variant={variant}"]
        command += [f'--aptopt=Acquire::Retries "{RETRIES}"']  # one of hundreds of packages may be cut off
        command += ["--include=" + ",".join(packages), SUITE, str(out), "-"]
        sources = "".join(f"deb {line}\n" for line in apt_sources())
        run(command, cwd=work, stdin=sources)
        (out / "build").mkdir(exist_ok=True)
        (out / "opt").mkdir(exist_ok=True)

    return Artefact(name, key(SUITE, variant, *packages, "2"), build)


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


def apt_sources() -> list[str]:
    """'URI SUITE COMPONENT' of each Debian 12 source that the machine is configured with."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"
    out = run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])
    found = sorted({line.rsplit(" ", 1)[0] for line in out.splitlines() if line.endswith(" Debian")})
    mine = [line for line in found if line.split()[1].startswith(SUITE)]
    if not mine:
        raise BadInput(f"no apt source of Debian {SUITE} is configured here: the lab takes all its programs from there")
    return mine


def apt_update(say: Say) -> None:
    """Fetch the package lists if there are none; a stale list is found out and mended by `download`."""
    with locked(paths.cache() / "apt.lock", say, "another coebench is fetching the package lists: waiting"):
        if not apt_sources_listed():
            say("apt-get update")
            run(["apt-get", "update", "-qq"])


def apt_sources_listed() -> bool:
    """Whether apt knows packages at all (a fresh container image has empty lists)."""
    return subprocess.run(["apt-cache", "show", "mmdebstrap"], capture_output=True).returncode == 0


def download(packages: tuple[str, ...], folder: Path) -> None:
    """Fetch packages' .deb files into a folder."""
    command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", *packages]
    try:
        run(command, cwd=folder)
    except BadInput:
        with locked(paths.cache() / "apt.lock", lambda _: None, ""):
            run(["apt-get", "update", "-qq"])  # lists older than the mirror's content
        run(command, cwd=folder)


def download_source(package: str, version: str, folder: Path) -> None:
    """Fetch a source package's files into a folder; the machine's own apt sources need no deb-src line."""
    apt = folder / "apt"
    for sub in ("lists/partial", "cache/archives/partial", "parts"):
        (apt / sub).mkdir(parents=True, exist_ok=True)
    (apt / "sources.list").write_text("".join(f"deb-src {line}\n" for line in apt_sources()))
    options = [
        f"Dir::Etc::SourceList={apt}/sources.list",
        f"Dir::Etc::SourceParts={apt}/parts",
        f"Dir::Cache={apt}/cache",
    ]
    options += [f"Dir::State::Lists={apt}/lists", "APT::Sandbox::User=root"]
    base = ["apt-get", *(word for option in options for word in ("-o", option))]
    run([*base, "update", "-qq"])
    run([*base, "source", "-qq", "--download-only", f"{package}={version}"], cwd=folder)


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


def run(command: list[str], cwd: Path | None = None, stdin: str | None = None) -> str:
    """Run a command to its end and return what it wrote. Raises BadInput with the end of its errors."""
    if not shutil.which(command[0]):
        raise BadInput(f"{command[0]} is not on this machine: the lab needs Debian 12")
    how: dict[str, Any] = {"stdin": subprocess.PIPE} if stdin is not None else {}
    with child(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", **how) as p:
        out, err = p.communicate(stdin)
    if p.returncode:
        lines = err.strip().splitlines()
        told = [line for line in lines if line.startswith(("E: Failed to fetch", "Err:"))][:2]  # apt's own reason is far above
        tail = " / ".join([*told, *lines[-4:]])
        raise BadInput(f"'{' '.join(command[:6])}…' failed: {tail}")
    return str(out)
