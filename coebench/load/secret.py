"""What an agent and a relay are told at their start, and by whoever gives them orders: drawn anew for each use.

It lies in the environment of the services' processes, so whoever may read the engine's services may read it while they run.
"""

from __future__ import annotations

import os
import re
import secrets

from msgspec.structs import replace

from ..contract import BadInput, ServiceSpec

VARIABLE = "COEBENCH_SECRET"


def draw() -> str:
    """A new one: 192 random bits."""
    return secrets.token_urlsafe(24)


def given() -> str:
    """The user's own, of the environment; "" if there is none. Raises BadInput for one that an agent would not take."""
    own = os.environ.get(VARIABLE, "")
    if own and not re.fullmatch(r"[A-Za-z0-9_-]{16,128}", own):
        raise BadInput(f"{VARIABLE}: want 16 to 128 letters, digits, - and _; draw one with: openssl rand -hex 16")
    return own


def told(spec: ServiceSpec, secret: str, executes: bool = False) -> ServiceSpec:
    """A service of agents that obey only those who know the secret, and run programs for them if `executes`."""
    env = {**spec.env, VARIABLE: secret, **({"COEBENCH_ALLOW_EXEC": "1"} if executes else {})}
    return replace(spec, env=env)
