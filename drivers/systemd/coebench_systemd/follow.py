"""Changes of instances as the hosts' systemd tell them: signals on a connection of its own to each."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Callable, Mapping

from jeepney import HeaderFields, MatchRule, MessageType, message_bus, new_method_call
from jeepney.io.blocking import DBusConnection

from coebench.contract import FollowingWatch, Instance

from . import units
from .bus import MANAGER, NAME, TIMEOUT, Bus

RETRY = 0.5  # seconds between two tries to listen to a host that is away
RULES = (
    MatchRule(
        type="signal", sender=NAME, interface="org.freedesktop.DBus.Properties", path_namespace="/org/freedesktop/systemd1/unit"
    ),
    *(MatchRule(type="signal", sender=NAME, interface=f"{NAME}.Manager", member=m) for m in ("UnitNew", "UnitRemoved", "JobNew")),
)


def follow(
    watch: FollowingWatch, closing: socket.socket, hosts: Mapping[str, Bus], service: str, now: Callable[[], tuple[Instance, ...]]
) -> None:
    """List again whenever a host tells of a unit of the service. Returns when the other end of `closing` is closed."""
    mark = _escaped(f"{units.PREFIX}{service}-")
    name = f"{units.PREFIX}{service}-"
    streams: dict[str, DBusConnection] = {}
    with selectors.DefaultSelector() as ready, closing:
        ready.register(closing, selectors.EVENT_READ, "")
        try:
            while not watch.closed.is_set():
                for host in set(hosts) - set(streams):
                    with contextlib.suppress(OSError):
                        streams[host] = _listen(hosts[host])
                        ready.register(streams[host].sock, selectors.EVENT_READ, host)
                watch.snapshot(now())  # after the streams are open: nothing falls between
                changed = False
                while not changed and not watch.closed.is_set():
                    found = ready.select(None if len(streams) == len(hosts) else RETRY)
                    changed = not found
                    for host in [key.data for key, _ in found if key.data]:
                        try:
                            changed |= _drain(streams[host], mark, name)
                        except OSError:  # it is away: its instances are lost, until it is back
                            ready.unregister(streams[host].sock)
                            streams.pop(host).close()
                            changed = True
        finally:
            for stream in streams.values():
                stream.close()


def _listen(bus: Bus) -> DBusConnection:
    """A connection that signals come in by. Raises OSError."""
    stream = bus.open()
    try:
        for message in [*(message_bus.AddMatch(rule) for rule in RULES), new_method_call(MANAGER, "Subscribe")]:
            stream.send_and_get_reply(message, timeout=TIMEOUT)  # answered: from here on nothing is missed
    except OSError:
        stream.close()
        raise
    return stream


def _drain(stream: DBusConnection, mark: str, name: str) -> bool:
    """Read all that has come; whether any of it is about the service."""
    about = False
    with contextlib.suppress(TimeoutError):
        while True:
            message = stream.receive(timeout=0)
            if message.header.message_type is not MessageType.signal:
                continue
            path = str(message.header.fields.get(HeaderFields.path, ""))
            told = [w for w in message.body if isinstance(w, str)]
            about |= mark in path or any(w.startswith(name) for w in told)
    return about


def _escaped(text: str) -> str:
    """As a part of an object's path (sd_bus_path_encode(3))."""
    return "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):02x}" for c in text)
