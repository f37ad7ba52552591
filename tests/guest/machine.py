"""A stock Debian with systemd, cgroup v2 and its own kernel, under software emulation: how it is made, started and talked to.

Two disks: the system with the project set up in it, and the lab's cache. Nothing is written to either (`snapshot=on`), so each
start is a fresh machine. It reaches nobody: one port of loopback leads in, to its sshd.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from coebench.contract import BadInput
from coebench.lab import images, install, paths, trees
from coebench.lab.cache import Artefact, Say, key, remove

SUITES = ("trixie", "bookworm")  # Debian 13, 12
COES = ("mesos", "swarm", "k8s")
PACKAGES = (
    *("linux-image-cloud-amd64", "systemd-sysv", "dbus", "libpam-systemd", "udev", "openssh-server"),
    *(
        "python3",
        "python3-venv",
        "git",
        "make",
        "perl",
        "ca-certificates",
        "iproute2",
        "procps",
        "kmod",
        "less",
        "vim-tiny",
        "zstd",
    ),
)
TOOLS = {  # program → Debian's package
    "qemu-system-x86_64": "qemu-system-x86",
    "mke2fs": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "git": "git",
}
REPO = Path(__file__).parents[2]
HOME = "root/coebench"  # the project, in the machine
SETUP = ("pyproject.toml", "requirements.txt", "scripts/setup.sh")  # what its packages depend on
TIMERS = ("apt-daily", "apt-daily-upgrade", "man-db", "e2scrub_all", "fstrim", "logrotate", "dpkg-db-backup")
DISK_SIZE = 16 << 30  # bytes; sparse
FREE = 10 << 30  # bytes of disk that making and running it takes, nothing cached

# In a tree, with this machine's way to PyPI (pip.conf, certificates, names); nothing of that is kept in the tree.
_IN_TREE = """
T=$1; shift
mount -t proc proc "$T/proc"; mount --rbind /dev "$T/dev"; mount -t tmpfs tmpfs "$T/run"
# what is shown from here lies over copies that are empty, and goes with the mounts
shown() { [ ! -e "$1" ] || mount --bind "$1" "$T$1"; }
rm -f "$T/etc/resolv.conf"; : > "$T/etc/resolv.conf"; touch "$T/etc/hosts" "$T/etc/pip.conf"
for f in /etc/resolv.conf /etc/hosts /etc/pip.conf; do shown $f; done
for d in /etc/ssl/certs /usr/share/ca-certificates /usr/local/share/ca-certificates; do mkdir -p "$T$d"; shown $d; done
exec chroot "$T" "$@"
"""

# Makes the merged tree a machine that starts by itself; its root is the argument.
_CONFIGURE = r"""
T=$1 ROOT=/root
echo guest > "$T/etc/hostname"
printf '127.0.0.1 localhost guest\n' > "$T/etc/hosts"
printf '/dev/vda / ext4 defaults 0 1\n/dev/vdb %s/.cache/coebench ext4 defaults,nofail 0 2\n' "$ROOT" > "$T/etc/fstab"
mkdir -p "$T$ROOT/.cache/coebench" "$T/etc/systemd/network"
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\n' > "$T/etc/systemd/network/10-all.network"
ln -sf /lib/systemd/system/systemd-networkd.service "$T/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
mkdir -p "$T$ROOT/.ssh"; chmod 700 "$T$ROOT/.ssh"
# sshd would wait for a resolver that isn't there
printf 'UseDNS no\nPermitRootLogin yes\n' > "$T/etc/ssh/sshd_config.d/guest.conf"
rm -f "$T/etc/resolv.conf" "$T/etc/pip.conf"; echo 'nameserver 127.0.0.1' > "$T/etc/resolv.conf"
for u in $TIMERS; do ln -sf /dev/null "$T/etc/systemd/system/$u.timer"; done   # they take the emulated CPUs for minutes
"""


def tools(say: Say) -> None:
    """Have the programs that all this takes: by apt if root and missing. Raises BadInput."""
    lacking = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    if os.geteuid() != 0:
        raise BadInput("the machine's disk is made of a Debian tree, for which it must be root: run the command with sudo")
    if lacking:
        if not shutil.which("apt-get"):
            raise BadInput(f"this needs {', '.join(TOOLS)}: install them by this machine's own way")
        say(f"installing on this machine, by apt: {', '.join(lacking)}")
        trees.run(["apt-get", "update", "-qq"])
        trees.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *lacking])
    free = shutil.disk_usage(paths.existing(paths.cache())).free
    if free < FREE:
        raise BadInput(f"{paths.cache()} has {free >> 20} MiB free, this takes {FREE >> 20}: set COEBENCH_CACHE elsewhere")


def tree(suite: str) -> Artefact:
    """The system, as a Debian tree."""
    return trees.debian(f"guest-{suite}", "important", PACKAGES, suite)


def setup(suite: str) -> Artefact:
    """What the project's own setup adds to the tree, a layer over it: the clone and its .venv, of the tree's Python."""
    lower = tree(suite)
    recipe = [trees.run(["git", "-C", str(REPO), "show", f"HEAD:{file}"]) for file in SETUP]

    def build(work: Path, out: Path, say: Say) -> None:
        below = lower.ensure(say)
        say("setting the project up in it, with its own Python (scripts/setup.sh)")
        script = f'git clone -q "{REPO}" "$T/{HOME}"; set -- "$T" sh -c "cd /{HOME} && exec sh scripts/setup.sh python3 .venv"\n'
        with _merged(f"{below}", out, work) as (merged, inside):
            trees.run([*inside, f'T="{merged}"\n{script}{_IN_TREE}', "guest"])

    return Artefact(f"guest-setup-{suite}", key(lower.key, *recipe, _IN_TREE), build)


def commit() -> str:
    """The commit that the machine gets: HEAD."""
    return trees.run(["git", "-C", str(REPO), "rev-parse", "HEAD"]).strip()


def disk(suite: str) -> Artefact:
    """disk.img, and beside it vmlinuz and initrd, which qemu starts by itself, and the key to log in with."""
    upper, head = setup(suite), commit()

    def build(work: Path, out: Path, say: Say) -> None:
        below = f"{upper.ensure(say)}:{tree(suite).ensure(say)}"
        say(f"packing its disk, with the project at {head[:12]}")
        for old in ("id", "id.pub"):
            (out / old).unlink(missing_ok=True)
        trees.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "guest", "-f", str(out / "id")])
        remove(work / "over")
        (work / "over").mkdir()
        script = f"""
T={{merged}}
cd "$T/{HOME}"
git fetch -q "{REPO}" HEAD; git checkout -q -f -B guest FETCH_HEAD; git clean -qfd
ROOT=/root; mkdir -p "$T$ROOT/.ssh"; install -m 600 "{out}/id.pub" "$T$ROOT/.ssh/authorized_keys"
cp "$T"/boot/vmlinuz-* "{out}/vmlinuz"; cp "$T"/boot/initrd.img-* "{out}/initrd"
chroot "$T" sh -c 'cd /{HOME} && .venv/bin/python -m compileall -q coebench drivers workloads' >/dev/null
TIMERS="{" ".join(TIMERS)}"; set -- "$T"
{_CONFIGURE}
truncate -s {DISK_SIZE} "{out}/disk.img"
mke2fs -q -F -t ext4 -E lazy_itable_init=1 -d "$T" "{out}/disk.img"
"""
        with _merged(below, work / "over", work) as (merged, inside):
            trees.run([*inside, script.format(merged=merged), "guest"])

    name = f"guest-disk-{suite}"
    artefact = Artefact(name, key(upper.key, head, _CONFIGURE, *TIMERS), build)
    for old in paths.cache().glob(f"{name}-*"):  # of other commits: 2 GB each
        if old.is_dir() and old != artefact.path:
            remove(old)
    return artefact


def cache_disk() -> Artefact:
    """disk.img with the lab's cache: what bays of the three engines need. Raises BadInput if it isn't installed here."""
    if lacking := [coe for coe in COES if not install.installed(coe)]:
        raise BadInput(
            f"the machine gets this one's cache, which lacks {', '.join(lacking)}: coebench lab install {' '.join(lacking)}"
        )

    def quiet(_: str) -> None:
        pass

    parts = {folder for coe in COES for folder in (*install.layers(coe, quiet), install.image_folder(coe, quiet))}
    parts.add(install.registry().ensure(quiet))
    for workload in install.workloads().values():
        parts.add(images.artefact(workload, trees.host_tree(), trees.build_tree()).ensure(quiet))
    parts.add(install.pause().ensure(quiet))

    def build(work: Path, out: Path, say: Say) -> None:
        say("packing the lab's cache as a disk of its own")
        remove(work / "root")
        (work / "root/lab").mkdir(parents=True)
        for part in sorted(parts):
            trees.run(["cp", "-al", str(part), str(work / "root/lab")])
        trees.run(["truncate", "-s", str(DISK_SIZE // 2), str(out / "disk.img")])
        trees.run(
            ["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1", "-d", str(work / "root"), str(out / "disk.img")]
        )

    artefact = Artefact("guest-cache", key(*(part.name for part in sorted(parts))), build)
    for old in paths.cache().glob("guest-cache-*"):
        if old.is_dir() and old != artefact.path:
            remove(old)
    return artefact


@contextlib.contextmanager
def _merged(lower: str, upper: Path, work: Path) -> Iterator[tuple[Path, list[str]]]:
    """Where an overlay of these will be, and the start of a command that mounts it there, in namespaces of its own, and goes on
    with a script. No network namespace: setting up needs PyPI."""
    at, scratch = work / "merged", work / "scratch"
    remove(scratch)
    for folder in (at, scratch):
        folder.mkdir(exist_ok=True)
    mount = f'mount -t overlay overlay -o "lowerdir={lower},upperdir={upper},workdir={scratch}" "{at}"'
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec"]
    yield at, [*alone, f'mount --make-rprivate /; {mount}; exec sh -ec "$@"', "sh"]
    remove(scratch)
    at.rmdir()


class Machine:
    """A machine that runs. `console` is what its kernel and systemd print."""

    def __init__(self, port: int, identity: Path) -> None:
        self.port, self.identity = port, identity

    def run(self, command: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a shell command in it; errors and output in one. Exit status 124 if it takes longer than `timeout` seconds."""
        options = {
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "ConnectTimeout": "120",
            "ServerAliveInterval": "60",
            "ServerAliveCountMax": "30",
            "BatchMode": "yes",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        argv = ["ssh", "-q", "-F", "none", "-i", str(self.identity), "-p", str(self.port), *words, "root@127.0.0.1"]
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        with trees.child([*argv, command], text=True, errors="replace", **how) as p:
            try:
                out, _ = p.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                p.kill()
                out, _ = p.communicate()
                return subprocess.CompletedProcess(argv, 124, out)
        return subprocess.CompletedProcess(argv, p.returncode, out)


@contextlib.contextmanager
def started(system: Path, cache: Path, console: Path, memory: str, words: str = "", timeout: float = 1200) -> Iterator[Machine]:
    """A machine of these two folders' disks, from when its sshd lets one in until the end of the block. `words`: more for its
    kernel's command line. Raises BadInput with the end of its console if it doesn't come up."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    # `max` has 5-level page tables, which cost emulation; numpy wants x86-64-v2 at least; Westmere has that and AES
    command = [
        "nice",
        "-n",
        "5",
        "qemu-system-x86_64",
        "-machine",
        "pc",
        "-accel",
        "tcg,thread=multi,tb-size=1024",
        "-cpu",
        "Westmere",
    ]
    command += ["-smp", str(min(4, len(os.sched_getaffinity(0)))), "-m", memory, "-display", "none", "-monitor", "none"]
    command += ["-serial", f"file:{console}", "-kernel", str(system / "vmlinuz"), "-initrd", str(system / "initrd")]
    # without tsc=reliable the kernel takes acpi_pm for its clock, and each look at it leaves the emulated CPU
    kernel = f"root=/dev/vda rw console=ttyS0 mitigations=off tsc=reliable no_timer_check net.ifnames=1 {words}"
    command += ["-append", kernel.strip()]
    for image in (system / "disk.img", cache / "disk.img"):
        command += ["-drive", f"file={image},format=raw,if=virtio,cache=unsafe,snapshot=on"]
    command += ["-netdev", f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"]
    command += ["-device", "virtio-net-pci,netdev=n", "-device", "virtio-rng-pci"]
    with tempfile.TemporaryFile() as errors, trees.child(command, stdout=errors, stderr=errors, stdin=subprocess.DEVNULL) as p:
        machine = Machine(port, system / "id")
        deadline = time.monotonic() + timeout
        try:
            while machine.run("true", 120).returncode:
                errors.seek(0)
                if p.poll() is not None:
                    raise BadInput(f"qemu ended: {errors.read().decode(errors='replace')[-500:]}")
                if time.monotonic() > deadline:
                    tail = "\n".join(console.read_text(errors="replace").splitlines()[-10:])
                    raise BadInput(f"the machine's sshd lets nobody in after {timeout:g} s; the end of its console:\n{tail}")
                time.sleep(1)
            yield machine
        finally:
            p.kill()
