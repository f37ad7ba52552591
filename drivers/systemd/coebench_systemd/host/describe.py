"""The unit that describes an image to systemd: ARCHIVE FOLDER, an archive of `docker save` and where its files are."""

import json
import sys
import tarfile
from typing import Any


def quoted(word: str) -> str:
    """As unit files want it: nothing is expanded (systemd.syntax(7), systemd.service(5))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    return f'"{escaped}"'


def content(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    assert file
    return json.load(file)


with tarfile.open(sys.argv[1]) as archive:
    manifest = content(archive, "manifest.json")[0]
    config = content(archive, manifest["Config"])["config"]
command = (config.get("Entrypoint") or []) + (config.get("Cmd") or [])
print(f"[Unit]\nDescription=image {manifest['RepoTags'][0]}\n\n[Service]\nRootDirectory={sys.argv[2]}")
print(f"WorkingDirectory={config.get('WorkingDir') or '/'}")
for variable in config.get("Env") or []:
    print(f"Environment={quoted(variable)}")
print("ExecStart=:" + " ".join(quoted(w) for w in command))
