"""systemd does what coebench's contract says: one test for each behaviour, on the bay that pyproject.toml names.

The plug-in that coebench brings along makes the bay, and takes it away. `pytest -k watch` runs some of them.
"""

from coebench.conformance.pytest_plugin import Verdict


def test_behaviour(coebench_verdict: Verdict) -> None:
    coebench_verdict.accept()
