"""scripts/setup.sh, with fakes of python3, pip and apt-get on the PATH. Whatever is wrong is one line that says what to do, with
exit code 2. Nothing half-done counts as done, and the next call goes on. tests/fresh has the real ones."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = (
    *("sh", "env", "cat", "cksum", "cp", "cut", "dirname", "basename", "grep", "head", "tail", "sed", "touch"),
    *("mkdir", "mktemp", "mv", "rm", "rmdir", "chmod", "flock"),
)
# Answers as Python does to the questions that setup.sh asks; its files in $FAKES say how it is today.
PYTHON = """#!/bin/sh
version=$(cat "$FAKES/version") place=$0
[ ! -e "${0%/bin/python}/version" ] || version=$(cat "${0%/bin/python}/version")
case "$*" in
*print*) echo "$version" ;;
*ensurepip*) case $version in 3.[0-9].*|3.10.*) exit 1 ;; esac; [ -e "$FAKES/venv" ] ;;
*"-c import sys; sys.exit"*) case $version in 3.[0-9].*|3.10.*) exit 1 ;; esac ;;
"-m venv "*)
  mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/pyvenv.cfg" && cp "$FAKES/version" "$3/version" ;;
"-m pip install "*)
  echo "$*" >> "$FAKES/calls"
  env | grep ^PIP_ >> "$FAKES/settings"
  [ ! -e "$FAKES/slow" ] || sleep "$(cat "$FAKES/slow")"
  case "$*" in *"-r requirements.txt"*) [ ! -e "$FAKES/pip" ] || { cat "$FAKES/pip"; exit 1; } ;; esac
  case "$*" in
  *"-e ."*) printf '#!/bin/sh\\necho coebench 1.2.3\\n' > "${0%/python}/coebench"; chmod +x "${0%/python}/coebench" ;;
  esac ;;
*) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""
APT = """#!/bin/sh
echo "apt-get $*" >> "$FAKES/calls"
case "$*" in
*install*)
  if [ -e "$FAKES/apt" ]; then cat "$FAKES/apt"; exit 100; fi
  case "$*" in *python3*) touch "$FAKES/venv"; cp "$FAKES/python3" "$FAKES/bin/python3" ;; esac ;;
esac
"""
DPKG = """#!/bin/sh
echo "dpkg $*" >> "$FAKES/calls"
rm -f "$FAKES/apt"
"""
SLEEP = f"""#!/bin/sh
[ "$1" != 0.2 ] || set -- 0.01
exec {shutil.which("sleep")} "$1"
"""
REFUSED = (
    "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken by "
    "'NewConnectionError('<HTTPSConnection>: Failed to establish a new connection: [Errno 111] Connection refused')': /x/\n"
    "ERROR: Could not find a version that satisfies the requirement idna==3.20 (from versions: none)\n"
    "ERROR: No matching distribution found for idna==3.20\n"
)
NOTHING = "\n".join(REFUSED.splitlines()[1:]) + "\n"
OLD = (
    "ERROR: Could not find a version that satisfies the requirement numpy==2.4.6 (from versions: 1.0, 2.0)\n"
    "ERROR: No matching distribution found for numpy==2.4.6\n"
)
TAMPERED = (
    "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, ...\n"
    "    wcwidth==0.9.4 from https://index.invalid/wcwidth-0.9.4-py3-none-any.whl (from -r requirements.txt (line 3)):\n"
    "        Expected sha256 000000\n"
    "             Got        b185c8\n"
)
CUT = "ERROR: Exception:\nReadTimeoutError(\"HTTPSConnectionPool(host='index.invalid', port=443): Read timed out.\")\n"
UNTRUSTED = (
    "WARNING: Retrying (Retry(total=4)) after connection broken by 'SSLError(SSLCertVerificationError(1, '[SSL: "
    "CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate'))': /simple/idna/\n"
)
FULL = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"


class Place:
    """A project's folder and a machine as setup.sh sees them."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder, self.fakes = tmp_path / "project", tmp_path / "fakes"
        self.bin = self.fakes / "bin"
        for made in (self.folder / "scripts", self.bin, tmp_path / "tmp"):
            made.mkdir(parents=True)
        shutil.copy(ROOT / "scripts/setup.sh", self.folder / "scripts")
        (self.folder / "pyproject.toml").write_text("")
        (self.folder / "requirements.txt").write_text("idna==3.20 \\\n    --hash=sha256:1\npip==26.3 \\\n    --hash=sha256:2\n")
        for tool in TOOLS:
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)
        for name, text in {"python3": PYTHON, "apt-get": APT, "dpkg": DPKG, "sleep": SLEEP, "perl": "#!/bin/sh\n"}.items():
            self.program(name, text)
        (self.fakes / "python3").write_text(PYTHON)
        (self.fakes / "python3").chmod(0o755)
        self.user(1000)
        self.fake("version", "3.11.2\n")
        self.fake("venv", "")
        self.env = {"PATH": str(self.bin), "FAKES": str(self.fakes), "TMPDIR": str(tmp_path / "tmp"), "HOME": str(tmp_path)}

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def user(self, number: int) -> None:
        self.program("id", f"#!/bin/sh\necho {number}\n")

    def fake(self, name: str, text: str | None) -> None:
        """How things are today; None: as they should be."""
        if text is None:
            (self.fakes / name).unlink(missing_ok=True)
        else:
            (self.fakes / name).write_text(text)

    def calls(self) -> list[str]:
        return (self.fakes / "calls").read_text().splitlines() if (self.fakes / "calls").exists() else []

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [shutil.which("sh") or "sh", "scripts/setup.sh", *words],
            cwd=self.folder,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, **env: str) -> tuple[int, str, str]:
        process = self.start(*words, **env)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def refused(self, *words: str, **env: str) -> str:
        """The one line that it says."""
        code, out, err = self.run(*words, **env)
        assert code == 2, out + err
        assert len(err.splitlines()) == 1, err
        assert err.startswith("setup: ")
        return err.strip()

    def works(self, *words: str, **env: str) -> str:
        code, out, err = self.run(*words, **env)
        assert (code, err) == (0, ""), out + err
        assert all(line.startswith("setup: ") for line in out.splitlines())
        assert "coebench 1.2.3 is ready" in out
        assert not list(Path(self.env["TMPDIR"]).iterdir())
        return out

    def whole(self) -> bool:
        return (self.folder / ".venv/.ready").exists()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_makes_an_environment_once(place: Place) -> None:
    out = place.works()
    assert "virtual environment in .venv, with Python 3.11.2" in out
    assert place.whole()
    first, second, third = place.calls()
    assert "--require-hashes --only-binary :all: -r .venv/pip.txt" in first  # pip itself
    assert "--require-hashes --only-binary :all: -r requirements.txt" in second
    assert "--no-build-isolation -e ." in third
    assert all("--no-deps" in call for call in (first, second, third))
    assert place.run() == (0, "setup: ready in .venv\n", "")
    assert len(place.calls()) == 3


def test_settings_of_pip_reach_it(place: Place) -> None:
    place.works(PIP_INDEX_URL="https://index.invalid/simple", PIP_CERT="/x.pem")
    settings = (place.fakes / "settings").read_text().splitlines()
    assert settings.count("PIP_INDEX_URL=https://index.invalid/simple") == 3
    assert settings.count("PIP_CERT=/x.pem") == 3


@pytest.mark.parametrize(
    ("pip", "said"),
    [
        (REFUSED, "the package index can't be reached: check the network"),
        (CUT, "the package index can't be reached: check the network"),
        (NOTHING, "the package index has no idna==3.20, or can't be reached: check the network"),
        (OLD, "the package index has no numpy==2.4.6 for Python 3.11.2: use another index"),
        (TAMPERED, "the package index's file of wcwidth is not the one that requirements.txt pins; nothing of it was used"),
        (UNTRUSTED, "the package index's certificate is not trusted: install ca-certificates"),
        (FULL, "no space left: .venv takes about 800 MB"),
        ("ERROR: [Errno 30] Read-only file system: '.venv/x'\n", "can't write to .venv or"),
        ("ERROR: something new\n", "pip failed: ERROR: something new: mend that"),
    ],
)
def test_what_pip_says_becomes_one_line(place: Place, pip: str, said: str) -> None:
    place.fake("pip", pip)
    line = place.refused()
    assert said in line
    assert "call again" in line
    (log,) = Path(place.env["TMPDIR"]).iterdir()
    assert str(log) in line
    assert pip in log.read_text()
    assert not (place.folder / ".venv").exists()  # nothing half-done
    log.unlink()
    place.fake("pip", None)
    place.works()


def test_a_python_that_is_too_old(place: Place) -> None:
    place.fake("version", "3.9.2\n")
    assert "python3 is Python 3.9.2, and coebench needs 3.11 or newer" in place.refused()
    assert "/nowhere/python" in place.refused("/nowhere/python")
    place.fake("version", "3.11.0\n")
    place.works()


def test_a_newer_python_under_its_own_name_is_taken(place: Place) -> None:
    place.program("python3.12", PYTHON.replace('$(cat "$FAKES/version")', "3.12.1"))
    place.fake("version", "3.9.2\n")
    assert "with Python 3.12.1" in place.works()


def test_no_python_and_no_root(place: Place) -> None:
    (place.bin / "python3").unlink()
    assert "there is no working python3 here: install Python 3.11 or newer" in place.refused()


def test_python_without_venv_and_no_root(place: Place) -> None:
    place.fake("venv", None)
    assert (
        "can't make virtual environments: install its venv (on Debian, as root: apt-get install python3-venv)" in place.refused()
    )
    assert not (place.folder / ".venv").exists()
    place.fake("venv", "")
    place.works()


def test_root_installs_what_is_missing(place: Place) -> None:
    place.user(0)
    (place.bin / "python3").unlink()
    place.program("perl", "#!/bin/sh\nexit 2\n")
    assert "installing python3 python3-venv" in place.works()
    (installed,) = [call for call in place.calls() if " install " in call and call.startswith("apt-get")]
    assert "--no-install-recommends python3 python3-venv" in installed
    assert " perl" in installed


def test_a_python_that_was_named_is_not_replaced(place: Place) -> None:
    place.user(0)
    place.fake("version", "3.9.2\n")
    assert "python3 is Python 3.9.2" in place.refused("python3")
    assert not any("python3-venv" in call for call in place.calls())


@pytest.mark.parametrize(
    ("apt", "said"),
    [
        ("E: Failed to fetch http://mirror.invalid/x.deb  Temporary failure resolving", "Debian's packages can't be fetched"),
        ("E: Unable to locate package python3-venv", "Debian's packages can't be fetched: check the network and apt's sources"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend.", "another program is using apt: wait until it is done"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "no space left for Debian's packages"),
        ("E: Something new", "apt-get failed: E: Something new: mend that"),
    ],
)
def test_what_apt_says_becomes_one_line(place: Place, apt: str, said: str) -> None:
    place.user(0)
    place.fake("venv", None)
    place.fake("apt", apt + "\n")
    line = place.refused()
    assert said in line
    assert "call again" in line
    for log in Path(place.env["TMPDIR"]).iterdir():
        log.unlink()
    place.fake("apt", None)
    place.works()


def test_a_dpkg_that_was_stopped_is_let_finish(place: Place) -> None:
    place.user(0)
    place.fake("venv", None)
    place.fake("apt", "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.\n")
    place.works()
    assert "dpkg --configure -a" in place.calls()


def test_a_folder_that_can_not_be_written_to(place: Place) -> None:
    assert "can't write to /proc/nothing/.venv: make its folder writable, or name another" in place.refused(
        "", "/proc/nothing/.venv"
    )
    place.works()


def test_a_disk_that_is_full_at_once(place: Place) -> None:
    (place.bin / "mkdir").unlink()
    place.program("mkdir", '#!/bin/sh\necho "mkdir: cannot create directory: No space left on device" >&2\nexit 1\n')
    assert "no space left for .venv, which takes about 800 MB" in place.refused()


def test_a_temporary_folder_that_is_missing(place: Place) -> None:
    assert "can't write to /proc/nothing" in place.refused(TMPDIR="/proc/nothing")


def test_a_folder_that_is_no_environment_is_left_alone(place: Place) -> None:
    mine = place.folder / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("x")
    assert "mine is there and is no virtual environment: move it away" in place.refused("", "mine")
    assert (mine / "thesis").exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_environment_that_was_left_half_made_is_made_anew(place: Place, how: signal.Signals) -> None:
    place.fake("slow", "20")
    process = place.start()
    until(place.calls)
    os.killpg(process.pid, how)
    process.communicate(timeout=10)
    assert process.returncode != 0
    assert not place.whole()
    assert (place.folder / ".venv").exists() == (how == signal.SIGKILL)
    (place.fakes / "slow").unlink()
    for log in Path(place.env["TMPDIR"]).iterdir():
        log.unlink()
    out = place.works()
    assert ("making .venv anew: it is not complete" in out) == (how == signal.SIGKILL)


def test_an_environment_of_another_python_is_made_anew(place: Place) -> None:
    place.works()
    place.program("python3.13", PYTHON.replace('$(cat "$FAKES/version")', "3.13.5"))
    assert place.run() == (0, "setup: ready in .venv\n", "")  # nobody asked for another
    place.fake("version", "3.13.5\n")
    assert "making .venv anew: it has Python 3.11.2, not 3.13.5" in place.works("python3.13")
    assert place.run() == (0, "setup: ready in .venv\n", "")


def test_an_environment_whose_python_is_gone_is_made_anew(place: Place) -> None:
    place.works()
    (place.folder / ".venv/bin/python").unlink()
    assert "making .venv anew: its Python 3.11.2 is gone" in place.works()


def test_an_environment_that_was_moved_is_made_anew(place: Place) -> None:
    place.works()
    place.folder = place.folder.rename(place.folder.with_name("elsewhere"))
    assert "making .venv anew: it was made as " in place.works()


def test_other_pins_renew_what_differs(place: Place) -> None:
    place.works()
    with (place.folder / "requirements.txt").open("a") as f:
        f.write("six==1.0 \\\n    --hash=sha256:3\n")
    place.fake("pip", REFUSED)
    assert "can't be reached" in place.refused()
    assert place.whole()  # pip had not begun to change anything: what was there still works
    for log in Path(place.env["TMPDIR"]).iterdir():
        log.unlink()
    place.fake("pip", "Installing collected packages: six\n" + FULL)
    assert "no space left" in place.refused()
    assert not place.whole()
    for log in Path(place.env["TMPDIR"]).iterdir():
        log.unlink()
    place.fake("pip", None)
    assert "making .venv anew: it is not complete" in place.works()
    assert place.run() == (0, "setup: ready in .venv\n", "")


@pytest.mark.skipif(not shutil.which("flock"), reason="no flock here")
def test_the_second_of_two_at_once_waits_and_finds_it_done(place: Place) -> None:
    place.fake("slow", "1")
    first = place.start()
    until(place.calls)
    code, out, err = place.run()
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "setup: another set-up is at work here: waiting for it",
        "setup: the other one has made it: ready in .venv",
    ]
    assert first.wait(10) == 0
    first.communicate()
    assert len(place.calls()) == 3


def test_without_flock_it_works_too(place: Place) -> None:
    (place.bin / "flock").unlink(missing_ok=True)
    place.works()


def test_make_setup_calls_it_with_what_was_named(place: Place) -> None:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    shutil.copy(ROOT / "Makefile", place.folder)
    (place.bin / "make").symlink_to(shutil.which("make") or "")

    def make(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["make", "setup", *words], cwd=place.folder, env=place.env, capture_output=True, text=True)

    p = make("VENV=mine")
    assert (p.returncode, p.stderr) == (0, "")
    assert (place.folder / "mine/.ready").exists()
    p = make("PYTHON=no-such")
    assert p.returncode == 2
    assert "there is no working no-such here" in p.stderr
