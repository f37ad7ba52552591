"""The native program on this machine: built from the package's own sources, once, into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs

from ..contract import BadInput


def program() -> Path:
    """`coeload`; COELOAD names one that is to be used instead. Raises BadInput if it can't be built."""
    target = place()
    if os.environ.get("COELOAD"):
        if not os.access(target, os.X_OK):
            raise BadInput(f"COELOAD={target} is no program")
    elif not target.exists():
        from coebench_workload_loadgen import WORKLOAD

        _build(WORKLOAD.sources(), target)
    return target


def place() -> Path:
    """Where the program is, or will be; its name tells the sources that it is made of."""
    if own := os.environ.get("COELOAD"):
        return Path(own)
    from coebench_workload_loadgen import WORKLOAD

    digest = hashlib.sha256(b"".join(p.read_bytes() for p in WORKLOAD.sources())).hexdigest()[:12]
    return cache() / f"coeload-{digest}"


def cache() -> Path:
    """Where programs that were built are kept."""
    return Path(os.environ.get("COEBENCH_CACHE") or platformdirs.user_cache_path("coebench")) / "coeload"


def _build(sources: list[Path], target: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler or not shutil.which("make"):
        raise BadInput("the load generator is built from C, once: install gcc and make, or name a built one with COELOAD=")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        work = Path(folder)
        for source in sources:
            shutil.copy(source, work)
        p = subprocess.run(["make", "-s", f"CC={compiler}", "OPT=-O2"], cwd=work, capture_output=True, text=True)
        if p.returncode:
            raise BadInput(f"building the load generator failed: {' / '.join(p.stderr.strip().splitlines()[-3:])}")
        (work / "build/coeload").replace(target)  # whole or not at all: several may build at once
