"""The example workload's image is built as the lab builds it, and holds what it says."""

from __future__ import annotations

import importlib
import io
import json
import sys
import tarfile
from pathlib import Path

import pytest

from coebench.lab import images, trees

pytestmark = pytest.mark.lab


def test_the_image_holds_the_larger_answer(lab_installed: object, tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples/workload-large"))
    large = importlib.import_module("coebench_large").WORKLOAD
    root = tmp_path / "root"
    root.mkdir()
    large.build(trees.host_tree().ensure(print), trees.build_tree().ensure(print), root)
    name = f"{large.image}:v1"
    with tarfile.open(fileobj=io.BytesIO(images.archive(images.layer_of(root), name, large.config("v1")))) as tar:
        (entry,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert entry["RepoTags"] == [name]
        with tarfile.open(fileobj=tar.extractfile(entry["Layers"][0])) as layer:
            assert layer.getmember("srv/index.html").size == 64 << 10
            assert "usr/sbin/nginx" in layer.getnames()
