"""`coebench driver new`: a complete package that installs, is listed, and is judged by the conformance suite at once."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from .. import plugins
from ..contract import VERSION, BadInput

TEMPLATE = Path(__file__).parent / "template"
SUFFIX = ".in"  # so that no tool takes a template for the language of what it becomes
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write(name: str, folder: Path | None = None) -> Path:
    """Write the package of a driver NAME into a new folder, `coebench-NAME` if none is given; returns it.

    Raises BadInput if the name can't be a COE's, is taken by an installed driver, or the folder has something in it.
    """
    if not _NAME.fullmatch(name) or len(name) > 30:
        raise BadInput(
            f"'{name}' can't be a driver's name: lower case letters, digits and single '-', a letter first, at most 30"
        )
    module = f"coebench_{name.replace('-', '_')}"
    if keyword.iskeyword(name):
        raise BadInput(f"'{name}' is a word of Python's: choose another name")
    if name in plugins.names("drivers"):
        raise BadInput(f"a driver '{name}' is installed already (coebench drivers list): choose another name")
    target = folder or Path(f"coebench-{name}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(f"{target} is there already: name another folder with --folder")
    title = " ".join(word.capitalize() for word in name.split("-"))
    values = {"NAME": name, "MODULE": module, "TITLE": title, "CLASS": title.replace(" ", ""), "CONTRACT": str(VERSION)}
    for source in sorted(TEMPLATE.rglob(f"*{SUFFIX}")):
        place = str(source.relative_to(TEMPLATE)).removesuffix(SUFFIX)
        file = target / _filled(place, values)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_filled(source.read_text(encoding="utf-8"), values), encoding="utf-8")
    return target


def _filled(text: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text
