"""The result model as JSON."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from synthetic import SCENARIOS, Synthetic

from coebench.results.derive import derive
from coebench.results.model import Result, RunInfo, decode, encode


def test_round_trip(tmp_path):
    result = derive(Synthetic(tmp_path).write(), SCENARIOS)
    assert decode(encode(result)) == result
    assert encode(decode(encode(result))) == encode(result)


def test_plain_json_without_numbers_that_json_has_not(tmp_path):
    result = derive(Synthetic(tmp_path).write(), SCENARIOS)
    plain = json.loads(encode(result), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert set(plain) == {"schema", "run", "bays", "scenarios", "metrics", "trials", "warnings", "gates"}
    assert plain["schema"] == "coebench.result/1"
    cell = plain["metrics"][0]["values"]["swarm"]
    assert {"median", "low", "high", "n", "censored", "failed", "samples"} <= set(cell)
    assert math.isfinite(cell["median"])


def test_fields_of_a_later_addition_are_passed_over():
    data = json.loads(encode(Result(run=RunInfo(id="r"))))
    data["run"]["later"] = 1
    assert decode(json.dumps(data)).run.id == "r"


def test_what_is_no_result_is_refused():
    with pytest.raises(msgspec.ValidationError):
        decode('{"schema": "coebench.result/1"}')
