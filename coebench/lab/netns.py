"""Sockets in a bay's network from a process outside: a network namespace belongs to a thread, a socket to the one it was made in.

A thread that enters a bay's network takes its later sockets, and the threads that it starts, along; the rest of the
process stays where it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
_RTM_NEWLINK, _IFLA_LINKINFO, _IFLA_INFO_KIND = 16, 18, 1
_REQUEST_ACK_CREATE_EXCL = 0x1 | 0x4 | 0x400 | 0x200


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns: " + os.strerror(ctypes.get_errno()))


@contextlib.contextmanager
def entered(pid: int) -> Iterator[None]:
    """While this lasts, the calling thread is in the network namespace of process `pid`. Raises OSError."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def has_link(kind: str) -> bool:
    """Whether the kernel can make links of a kind ("veth", "bridge", …): one is asked for, as a bay would, in a network that is
    gone with the answer. Raises OSError without the right to try."""
    text = kind.encode()
    info = struct.pack("HH", 4 + len(text), _IFLA_INFO_KIND) + text + bytes(-len(text) % 4)
    body = struct.pack("BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0) + struct.pack("HH", 4 + len(info), _IFLA_LINKINFO) + info
    head = struct.pack("IHHII", 16 + len(body), _RTM_NEWLINK, _REQUEST_ACK_CREATE_EXCL, 1, 0)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare: " + os.strerror(ctypes.get_errno()))
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as s:
                s.settimeout(5)
                s.send(head + body)
                status = struct.unpack_from("i", s.recv(4096), 16)[0]
        finally:
            _setns(home)
    finally:
        os.close(home)
    return -int(status) != errno.EOPNOTSUPP  # another complaint, such as about what the kind wants to know, is its own
