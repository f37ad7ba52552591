"""What a coordinator must know to go on after its process has died: a file, written whole or not at all.

Seconds are acknowledged only after a checkpoint has them, so whatever it lacks a generator still has and sends again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from ..contract import BadInput, LoadPlan
from .ledger import Ledger
from .timeline import Timeline

SCHEMA = "coebench.load/1"


class Checkpoint(msgspec.Struct, kw_only=True):
    ident: str
    plan: LoadPlan
    timeline: Timeline
    relay: tuple[str, int] | None
    expect: int
    ledgers: list[Ledger]
    merge: dict[str, Any]
    flags: list[str]
    schema: str = SCHEMA


def write(file: Path, state: Checkpoint) -> None:
    """Raises BadInput if it can't be written."""
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_bytes(msgspec.json.encode(state))
        os.replace(part, file)
    except OSError as e:
        raise BadInput(f"can't write the checkpoint {file}: {e.strerror}") from None


def read(file: Path) -> Checkpoint:
    """Raises BadInput if there is none, or none that can be used."""
    try:
        saved = msgspec.json.decode(file.read_bytes(), type=Checkpoint)
    except OSError as e:
        raise BadInput(f"can't read the checkpoint {file}: {e.strerror}") from None
    except msgspec.MsgspecError as e:
        raise BadInput(f"{file} is not a load's checkpoint: {e}") from None
    if saved.schema != SCHEMA:
        raise BadInput(f"{file} was written by another version of coebench: {saved.schema}, not {SCHEMA}")
    return saved
