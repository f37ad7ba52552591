"""Turn on IPv4 forwarding in the network namespaces in which Docker's load balancers live.

Docker's virtual IPs are served by ip_vs in namespaces that dockerd makes. A new namespace takes its setting from the machine's
own network, not from the host's. On a machine of Docker's own it is on there, since dockerd turns it on; below a lab host it is
the setting of the real machine, where the lab changes nothing. Without it, no request to a virtual IP is answered.

    balancers.py FOLDER      watches the folder (/run/docker/netns) for ever
"""

import ctypes
import os
import select
import sys
import time

CREATE, MOVED_TO = 0x100, 0x80
NEWNET = 0x40000000
PATIENCE = 300.0  # seconds until a new file is a namespace: dockerd makes the file and begins itself anew to mount onto it
libc = ctypes.CDLL(None, use_errno=True)


def forward(file: str) -> bool:
    """Enter the namespace of a file and turn forwarding on; returns whether it is a namespace yet."""
    try:
        fd = os.open(file, os.O_RDONLY)
    except OSError:
        return True  # gone again
    try:
        if libc.setns(fd, NEWNET):
            return False
    finally:
        os.close(fd)
    with open("/proc/sys/net/ipv4/ip_forward", "w") as setting:
        setting.write("1")
    return True


def main(folder: str) -> None:
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    watch = libc.inotify_init()
    os.makedirs(folder, exist_ok=True)
    if watch < 0 or libc.inotify_add_watch(watch, folder.encode(), CREATE | MOVED_TO) < 0:
        sys.exit(f"{folder} can't be watched: {os.strerror(ctypes.get_errno())}")
    waiting = {name: time.monotonic() for name in os.listdir(folder)}  # name → since when it is waited for
    while True:
        now = time.monotonic()
        for name, since in list(waiting.items()):
            if forward(os.path.join(folder, name)) or now - since > PATIENCE:
                del waiting[name]
            libc.setns(home, NEWNET)
        # a mount is no event of inotify; what takes long is looked at less often
        pause = max(0.005, min((now - since) / 20 for since in waiting.values())) if waiting else None
        if not select.select([watch], [], [], pause)[0]:
            continue
        data, at = os.read(watch, 65536), 0
        while at < len(data):
            length = int.from_bytes(data[at + 12 : at + 16], sys.byteorder)
            waiting[data[at + 16 : at + 16 + length].rstrip(b"\0").decode()] = time.monotonic()
            at += 16 + length


main(sys.argv[1])
