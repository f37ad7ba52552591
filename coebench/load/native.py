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
    if own := os.environ.get("COELOAD"):
        if not os.access(own, os.X_OK):
            raise BadInput(f"COELOAD={own} is no program")
        return Path(own)
    from coebench_workload_loadgen import WORKLOAD

    sources = WORKLOAD.sources()
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()[:12]
    cache = Path(os.environ.get("COEBENCH_CACHE") or platformdirs.user_cache_path("coebench"))
    target = cache / "coeload" / f"coeload-{digest}"
    if not target.exists():
        _build(sources, target)
    return target


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
