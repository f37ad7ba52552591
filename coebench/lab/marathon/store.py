"""What has to outlive this process: framework id, apps with their versions, instances, deployments.

Everything is JSON in one SQLite file.  Changes are gathered and written in one transaction by ``commit``, which the
scheduler calls before it tells Mesos anything: no task is ever started that a restarted scheduler does not know.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

KINDS = ("meta", "app", "version", "instance", "deployment")


class Store:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # isolation_level None: transactions begin and end where this says so
        self._db = sqlite3.connect(folder / "state.sqlite", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")  # a killed process loses nothing
        self._db.execute("CREATE TABLE IF NOT EXISTS thing (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key))")
        self._changes: dict[tuple[str, str], str | None] = {}

    def load(self, kind: str) -> dict[str, Any]:
        rows = self._db.execute("SELECT key, value FROM thing WHERE kind = ? ORDER BY rowid", (kind,))
        return {key: json.loads(value) for key, value in rows}

    def put(self, kind: str, key: str, value: Any) -> None:
        assert kind in KINDS
        self._changes[kind, key] = json.dumps(value, separators=(",", ":"))

    def remove(self, kind: str, key: str) -> None:
        self._changes[kind, key] = None

    def commit(self) -> None:
        """Raises sqlite3.Error if it can't be written (a full disk, a lock): then nothing of it is, and all is kept for the next
        time."""
        if not self._changes:
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for (kind, key), value in self._changes.items():
                if value is None:
                    self._db.execute("DELETE FROM thing WHERE kind = ? AND key = ?", (kind, key))
                else:
                    self._db.execute(
                        "INSERT INTO thing VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                        (kind, key, value),
                    )
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite itself ends it after some errors
                self._db.execute("ROLLBACK")
            raise
        self._changes = {}

    def close(self) -> None:
        self.commit()
        self._db.close()
