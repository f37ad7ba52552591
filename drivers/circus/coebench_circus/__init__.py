"""Circus for coebench."""

from .driver import CircusDriver

__all__ = ["CircusDriver"]
