"""What a driver may be able to do beyond deploying, and how it says that it can't."""

from __future__ import annotations

import enum

import msgspec


class Capability(enum.StrEnum):
    """Each name is one thing that scenarios may need. A driver answers for every one of them, with a reason where not."""

    ENDPOINTS = "endpoints"  # every instance has an address of its own that a client inside the bay can reach
    NATIVE = "native"  # the COE's own virtual IP or routing mesh answers for a service
    PROXY = "proxy"  # a proxy in front of the instances, the same for all COEs
    WATCH = "watch"  # changes of instances are pushed by the engine; without it the driver polls and says so
    HEALTH = "health"  # the engine itself checks the health path
    UPDATE = "update"  # rolling update to another version
    KILL = "kill"  # one instance can be ended without the engine's consent
    DRAIN = "drain"  # a node can be emptied and given back
    RESERVE = "reserve"  # what an instance asks for of CPU and memory is kept from others; what fits nowhere is not started
    LOGS = "logs"  # the output of an instance can be read


class Support(msgspec.Struct, frozen=True):
    """Whether a capability is there. `reason` is a sentence for the table where it is not, or where it is qualified."""

    ok: bool
    reason: str = ""
