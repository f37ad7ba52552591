"""Where the lab keeps what it builds (cache) and what is running (state)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs


def cache() -> Path:
    """Built once, safe to delete when no bay is up: COEBENCH_CACHE or the user's cache folder."""
    return Path(os.environ.get("COEBENCH_CACHE") or platformdirs.user_cache_path("coebench")) / "lab"


def state() -> Path:
    """What is up now, and the lock: COEBENCH_STATE or the user's state folder. Hosts' writable layers are here."""
    return Path(os.environ.get("COEBENCH_STATE") or platformdirs.user_state_path("coebench")) / "lab"


def tag() -> str:
    """What this lab's cgroups are named: a lab with a state folder of its own is another lab, and the two do not meet."""
    own = os.environ.get("COEBENCH_STATE")
    return "coebench" + (f"-{hashlib.sha256(own.encode()).hexdigest()[:8]}" if own else "")


def guest() -> Path:
    """This package's folder, which every host sees, read-only, at /opt/coebench: payloads are in its `guest/`."""
    return Path(__file__).parent


def existing(path: Path) -> Path:
    """The nearest folder above, or the path itself, that is there: where its disk can be asked about."""
    while not path.exists():
        path = path.parent
    return path
