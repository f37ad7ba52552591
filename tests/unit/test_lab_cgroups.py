"""cgroups: made-up trees, and on a kernel that has version 2 beside version 1, as here, the real rules of version 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coebench.contract import BadInput, BayFailed, BaySpec
from coebench.lab import bay, cgroups, host, install, paths
from coebench.lab.engines import engine

V2 = next((p for p in map(Path, ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")) if (p / "cgroup.controllers").exists()), None)


@pytest.fixture
def v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of version 2 as files."""
    root = tmp_path / "cgroup"
    root.mkdir()
    (root / "cgroup.controllers").write_text("cpuset cpu io memory pids rdma\n")
    (root / "cgroup.subtree_control").write_text("memory pids\n")
    (root / "cgroup.procs").write_text("1\n")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"cgroup2 {root} cgroup2 rw,nsdelegate 0 0\n")
    monkeypatch.setattr(cgroups, "_MOUNT", root)
    monkeypatch.setattr(cgroups, "_MOUNTS", mounts)
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path / "state"))
    return root


def test_what_engines_know_is_handed_on_and_nothing_else(v2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    plain = Path.write_text

    def write(self: Path, text: str) -> int:  # the kernel's file is no file that holds what was written last
        if self.name == "cgroup.subtree_control":
            written.append(text)
            return 0
        return plain(self, text)

    monkeypatch.setattr(Path, "write_text", write)
    assert [f.relative_to(v2).parts[1:] for f in cgroups.create("bay/c1", 0, 0)] == [("bay", "c1", "cgroup.procs")]
    assert written == ["+cpuset", "+cpu", "+io"]  # the rest is on already, or no engine's


def test_what_others_use_is_not_switched_off(v2: Path) -> None:
    cgroups.create("bay/c1", 0, 0)
    record = paths.state() / "controllers"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert f"{boot} cpuset\n" in record.read_text()
    record.write_text(f"{boot} cpuset\n{boot} io\n")  # the kernel's file lists what is on, the made-up one what was written last
    (v2 / "other.slice").mkdir()
    (v2 / "other.slice/cpuset.cpus").write_text("0\n")
    (v2 / "other.slice/io.weight").write_text("default 100\n")
    (v2 / "cgroup.subtree_control").write_text("cpuset cpu io memory pids\n")
    bay.end_all("bay")  # made-up cgroups go as folders do
    assert (v2 / "cgroup.subtree_control").read_text() == "-io"
    assert not record.exists()


def test_a_limit_that_nobody_set_is_none(v2: Path) -> None:
    """hugetlb shows it as a number, of whole pages."""
    (v2 / "other.slice").mkdir()
    for size in ("2MB", "1GB"):
        (v2 / f"other.slice/hugetlb.{size}.max").write_text("9223372036854771712\n")
    (v2 / "other.slice/hugetlb.1GB.rsvd.max").write_text("max\n")
    assert not cgroups._in_use("hugetlb")
    (v2 / "other.slice/hugetlb.2MB.max").write_text("2097152\n")
    assert cgroups._in_use("hugetlb")


def test_what_another_boot_switched_on_is_none_of_ours(v2: Path) -> None:
    (paths.state()).mkdir(parents=True)
    (paths.state() / "controllers").write_text("another-boot io\n")
    cgroups.switch_off()
    assert (v2 / "cgroup.subtree_control").read_text() == "memory pids\n"
    assert not (paths.state() / "controllers").exists()


def test_a_limit_that_can_t_be_set_is_an_error_not_a_host_without_it(v2: Path) -> None:
    made = v2 / paths.tag() / "bay/c1"
    made.mkdir(parents=True)
    (made / "cgroup.controllers").write_text("pids\n")
    with pytest.raises(BadInput, match=r"no memory\.max"):
        cgroups.create("bay/c1", 0, 1 << 30)
    (made / "memory.max").write_text("max\n")
    cgroups.create("bay/c1", 0, 1 << 30)
    assert (made / "memory.max").read_text() == str(1 << 30)


def test_a_machine_that_can_t_have_hosts_says_why(v2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cgroups.problem() == ""
    (v2 / "cgroup.type").write_text("domain\n")  # which the machine's own root has not
    assert "can't hand on cpu" in cgroups.problem()
    (v2 / "cgroup.procs").write_text("")
    assert cgroups.problem() == ""
    (v2 / "cgroup.controllers").write_text("hugetlb\n")
    assert "lacks cpu, memory, pids" in cgroups.problem()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(BadInput, match="lacks cpu, memory, pids"):
        install.check_machine()


def test_the_freezer_is_a_hierarchy_beside_version_2(v2: Path, tmp_path: Path) -> None:
    assert cgroups.hierarchies() == [v2]
    top = tmp_path / "freezer"
    top.mkdir()
    with open(tmp_path / "mounts", "a") as f:
        f.write(f"cgroup {tmp_path}/net_cls cgroup rw,net_cls 0 0\ncgroup {top} cgroup rw,freezer 0 0\n")
    assert cgroups.hierarchies() == [v2, top]
    assert cgroups.freezer() == ""


def test_mesos_says_what_it_lacks_before_anything_is_built(v2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "freezer", lambda: "this kernel has no freezer")
    with pytest.raises(BadInput, match=r"Mesos can't run on this machine: .* and this kernel has no freezer"):
        engine("mesos").check(BaySpec(coe="mesos"))
    engine("swarm").check(BaySpec(coe="swarm"))
    monkeypatch.setattr(install, "check_machine", lambda: None)
    monkeypatch.setattr(install, "registry", lambda: pytest.fail("something is built"))
    with pytest.raises(BadInput, match=r"Mesos can't run on this machine"):
        install.install(["mesos"], lambda _: None)


BEFORE = """\
set -e
R=$1; mkdir -p "$R/sys/fs/cgroup"; mount --make-rprivate /
[ "$2" = 1 ] || mount --bind "$2" /sys/fs/cgroup
"""
AFTER = """
cat /proc/self/cgroup > "$3"; cat "$R/sys/fs/cgroup/cgroup.subtree_control" >> "$3" 2>/dev/null || :
echo ok >&8; exec 8>&-; exec sleep 60
"""


def cgroup_part() -> str:
    """What init.sh does about cgroups."""
    text = (paths.guest() / "guest/init.sh").read_text()
    return text[text.index("MOUNTS=") : text.index("# No sysctl")]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("apart", [True, False])
def test_a_host_hands_its_controllers_on(version: int, apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that no process may be in a cgroup that hands controllers on is the kernel's: tried where it can be."""
    if os.geteuid() != 0 or not V2:
        pytest.skip("needs root, and cgroup v2, if only beside v1")
    controllers = set(cgroups.CONTROLLERS) & set((V2 / "cgroup.controllers").read_text().split())
    if not controllers or (version == 1 and (not apart or cgroups.version() == 2)):
        pytest.skip("no controller is left to version 2, or nothing to try with version 1")
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path / "state"))
    if version == 2:
        monkeypatch.setattr(cgroups, "_MOUNT", V2)
    beside = cgroups.hierarchies()[1:]
    before = (V2 / "cgroup.subtree_control").read_text()
    script, told = tmp_path / "guest.sh", tmp_path / "told"
    script.write_text(BEFORE + cgroup_part() + AFTER)
    joins = cgroups.create("bay/h", 0, 0)
    argv = [str(tmp_path / "root"), str(V2 if version == 2 else 1), str(told)]
    try:
        outer = cgroups.leaf("bay/h") if apart else None
        if version == 2 and not apart:
            with pytest.raises(BayFailed, match=r"busy"):
                host.spawn(script, argv, joins, tmp_path / "log", {}, whole=True, outer=outer)
            return
        process = host.spawn(script, argv, joins, tmp_path / "log", {}, whole=True, outer=outer)
        inner = process.child()
        assert inner and cgroups.pids("bay/h") == {process.pid, inner.pid}
        assert cgroups.pids("bay/h/init") == {inner.pid}
        seen = {line.split(":")[1]: line.split(":")[2] for line in told.read_text().splitlines() if ":" in line}
        if version == 2:
            assert seen[""] == "/init" and controllers <= set(told.read_text().split())
            assert not beside or seen["freezer"] == "/init"
        else:
            mine = {name for name, path in seen.items() if name and path == "/init"}
            assert {"cpu", "memory", "freezer"} <= {part for name in mine for part in name.split(",")}
            assert len(mine) + 1 == len(cgroups.hierarchies())
            assert seen[""] == "/" and cgroups.hierarchies()[-1] == V2  # a cgroup of its own in version 2 too
            assert not any(f.read_text().strip() for f in (V2 / paths.tag()).rglob("cgroup.subtree_control"))
    finally:
        bay.end_all("bay")
    assert cgroups.folders() == []
    assert (V2 / "cgroup.subtree_control").read_text() == before  # what the lab switched on is off again
    assert not (paths.state() / "controllers").exists()
