"""Remembers which plug-ins could be imported, so that listing them need not import a client library each time.

What is remembered of one holds while nothing that its import depends on has changed: the interpreter, the folders that
modules are found in (installing or removing a package changes their time), and the files of the plug-in's own package.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import platformdirs


class Memory:
    """The plug-ins of one group that were good. Broken ones are not remembered: they are tried again each time."""

    def __init__(self, group: str) -> None:
        parts = [group, sys.version, *(f"{p} {_time(p)}" for p in sys.path)]
        self._seed = "\n".join(parts)
        cache = Path(os.environ.get("COEBENCH_CACHE") or platformdirs.user_cache_path("coebench"))
        self._file = cache / "plugins" / f"{hashlib.sha256(self._seed.encode()).hexdigest()[:16]}.json"
        try:
            known = json.loads(self._file.read_text())
            self._known: dict[str, str] = known if isinstance(known, dict) else {}
        except (OSError, ValueError):
            self._known = {}
        self._new: dict[str, str] = {}

    def get(self, name: str, value: str) -> str | None:
        """The title of an entry point that was good and has not changed since; None if it has to be imported."""
        key = _key(name, value)
        title = self._known.get(key) if key else None
        return title if isinstance(title, str) else None

    def put(self, name: str, value: str, title: str) -> None:
        """Remember a good one."""
        if key := _key(name, value):
            self._new[key] = title

    def save(self) -> None:
        """Keep what is new, if the folder can be written; that it can't is no error."""
        if not self._new:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            new = self._file.with_suffix(f".{os.getpid()}")
            new.write_text(json.dumps({**self._known, **self._new}))
            new.replace(self._file)
        except OSError:
            pass


def _key(name: str, value: str) -> str:
    """An entry point with the files of its package; empty if they can't be looked at without importing it."""
    package = value.partition(":")[0].partition(".")[0]
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return ""
    if spec is None or not spec.origin:
        return ""
    files = [Path(spec.origin)]
    for folder in spec.submodule_search_locations or ():
        files += sorted(Path(folder).rglob("*.py"))
    return hashlib.sha256("\n".join([name, value, *(f"{f} {_time(str(f))}" for f in files)]).encode()).hexdigest()[:24]


def _time(path: str) -> int:
    try:
        return os.stat(path or ".").st_mtime_ns
    except OSError:
        return 0
