"""What scenarios check settings by: each raises BadInput with one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract import BadInput


def number(scenario: str, settings: Mapping[str, Any], name: str, least: float, most: float) -> None:
    """A number within bounds."""
    value = settings[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise BadInput(f"{scenario}: '{name}' is a number from {least:g} to {most:g}, not {value!r}")


def whole(scenario: str, settings: Mapping[str, Any], name: str, least: int, most: int) -> None:
    """A whole number within bounds."""
    value = settings[name]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadInput(f"{scenario}: '{name}' is a whole number from {least} to {most}, not {value!r}")


def numbers(scenario: str, settings: Mapping[str, Any], name: str, least: int, most: int) -> None:
    """A list of whole numbers within bounds, none twice."""
    value = settings[name]
    good = isinstance(value, list) and value and all(isinstance(n, int) and not isinstance(n, bool) for n in value)
    if not good or not all(least <= n <= most for n in value):
        raise BadInput(f"{scenario}: '{name}' is a list of numbers from {least} to {most}, not {value!r}")
    if len(set(value)) < len(value):
        raise BadInput(f"{scenario}: '{name}' has a number twice: {value!r}")
