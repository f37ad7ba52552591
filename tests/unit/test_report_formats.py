"""JSON, Markdown and the picture."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET

import pytest
from synthetic import SCENARIOS, Synthetic

from coebench.report.json import JsonReporter
from coebench.report.markdown import MarkdownReporter, escape
from coebench.report.picture import picture
from coebench.results.derive import derive
from coebench.results.model import Result, RunInfo, decode


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return derive(Synthetic(tmp_path_factory.mktemp("runs")).write(), SCENARIOS)


def rendered(reporter, result):
    out = io.StringIO()
    reporter.render(result, out)
    return out.getvalue()


def test_json_is_the_model_alone(result):
    text = rendered(JsonReporter(), result)
    assert decode(text) == result and text.endswith("}\n")
    assert json.loads(text)["schema"] == "coebench.result/1"


def test_markdown_table_is_whole(result):
    lines = rendered(MarkdownReporter(), result).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert {line.count("|") - line.count("\\|") for line in tables} == {5}
    text = "\n".join(lines)
    assert "**0.68 (0.66–0.70) ✓**" in text
    assert "2 of 5 timed out" in text and "<sup>5</sup>" in text
    assert "5. the generator was the limit" in text


def test_markdown_of_nothing():
    assert "Nothing was measured." in rendered(MarkdownReporter(), Result(run=RunInfo(id="r")))


@pytest.mark.parametrize("text", ["<script>", "a|b", "*x*", "[x](http://y)", "http://y.z", "`x`", "# x", "&amp;"])
def test_markdown_of_a_name_is_that_name(text):
    escaped = escape(text)
    assert "<script" not in escaped and "http:" not in escaped
    for sign in "|*`[]#":
        assert escaped.replace(f"\\{sign}", "").count(sign) == 0


def test_markup_in_names_stays_in_its_cell(tmp_path):
    name = "a|b<img src=x>"
    run = Synthetic(tmp_path, subjects={name: "k8s", "swarm": "swarm"}, effect={name: 2, "swarm": 1})
    run.trouble = False
    result = derive(run.write(), SCENARIOS)
    text = rendered(MarkdownReporter(), result)
    assert "<img" not in text and "a\\|b&lt;img" in text
    ET.fromstring(picture(result))


def test_picture_can_be_read(result):
    def luminance(code):
        parts = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        return sum(
            w * (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4)
            for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
        )

    ground = luminance("#161b22")
    colours = set(re.findall(r"\.coebench-r\d+ \{ fill: (#[0-9a-f]{6})", picture(result)))
    assert len(colours) >= 3
    for colour in colours:
        assert (luminance(colour) + 0.05) / (ground + 0.05) >= 4.5, colour


def test_picture_is_svg_that_asks_nothing_of_anyone(result):
    svg = picture(result, width=90)
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "") and "url(" not in svg.replace("url(#", "")
    assert picture(result, width=90) == svg
    text = "".join(root.itertext()).replace("\xa0", " ")
    assert "Docker Swarm" in text and "✓" in text
