"""JUnit XML: gates and trials as test cases, which every CI system shows.

The form is that of the Ant task, as Jenkins' and GitLab's readers take it; there is no specification.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, TextIO
from xml.etree import ElementTree as ET

from ..results.model import Result


class JunitReporter:
    """`coebench report RUN… --format junit`: a suite of the gates and one of each scenario's trials, by run."""

    name: ClassVar[str] = "junit"

    def render(self, result: Result, out: TextIO) -> None:
        self.render_all([result], out)

    def render_all(self, results: Sequence[Result], out: TextIO) -> None:
        root = ET.Element("testsuites", name="coebench")
        for r in results:
            if r.gates:
                suite = _suite(root, r, "gates")
                for g in r.gates:
                    case = ET.SubElement(suite, "testcase", classname=_text(f"{r.run.id}.gates"), name=_text(g.text), time="0")
                    if not g.passed:
                        ET.SubElement(case, "failure", message=_text(g.reason), type="gate").text = _text(g.reason)
            for scenario in dict.fromkeys(t.scenario for t in r.trials):
                suite = _suite(root, r, scenario)
                for t in r.trials:
                    if t.scenario != scenario:
                        continue
                    name = _text(f"{t.subject}.{scenario}")
                    case = ET.SubElement(suite, "testcase", classname=name, name=_text(t.id), time=f"{t.seconds:.3f}")
                    if t.status == "skipped":
                        ET.SubElement(case, "skipped", message=_text(t.reason))
                    elif t.status in ("failed", "timeout"):
                        said = ET.SubElement(case, "failure", message=_text(t.reason or t.status), type=t.status)
                        said.text = _text(t.evidence or t.reason)
                    elif t.status != "ok":  # interrupted: the tool's end and not the engine's failure
                        ET.SubElement(case, "error", message=_text(t.reason or t.status), type=_text(t.status))
            if not r.run.complete:
                suite = _suite(root, r, "run")
                case = ET.SubElement(suite, "testcase", classname=_text(r.run.id), name="the whole plan was run", time="0")
                ended = [w for w in r.warnings if "never begun" in w or "ended in the middle" in w]
                ET.SubElement(case, "error", message=_text(" ".join(ended) or "the run is incomplete"), type="incomplete")
        for suite in root:
            suite.set("tests", str(len(suite.findall("testcase"))))
            for kind in ("failure", "error", "skipped"):
                suite.set(kind if kind == "skipped" else f"{kind}s", str(len(suite.findall(f"testcase/{kind}"))))
            suite.set("time", f"{sum(float(c.get('time', '0')) for c in suite.findall('testcase')):.3f}")
        for kind in ("tests", "failures", "errors", "skipped"):
            root.set(kind, str(sum(int(s.get(kind, "0")) for s in root)))
        ET.indent(root)
        out.write('<?xml version="1.0" encoding="UTF-8"?>\n')
        out.write(ET.tostring(root, encoding="unicode") + "\n")


def _suite(root: ET.Element, r: Result, name: str) -> ET.Element:
    return ET.SubElement(root, "testsuite", name=_text(f"{r.run.id} {name}"), timestamp=_text(r.run.started.rstrip("Z")))


def _text(text: str) -> str:
    """XML 1.0 has no control characters, not even escaped ones."""
    return re.sub(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "�", text)
