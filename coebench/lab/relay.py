"""How a bay is used from outside coebench: a relay on loopback for its API, and the words to say so.

A listening socket belongs to the network namespace it was made in: it is opened on the machine's loopback, then the process
enters the bay's network and connects there for whoever comes. It ends with the bay, being in its cgroup.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from ..contract import BayFailed
from . import cgroups, netns
from .bay import LabBay


def usage(bay: LabBay) -> str:
    """Start what is needed and return the text that tells the user how to use the bay."""
    coe, name = bay.state.spec.coe, bay.name
    lines = [f"{bay.engine.title} {bay.engine.version}, bay '{name}': 1 control host and {len(bay.state.layout.nodes)} nodes"]
    if coe == "k8s":
        port = start(bay, "10.77.0.1", 6443)
        config = bay.folder / "kubeconfig"
        text = bay.access().kubeconfig.replace("https://10.77.0.1:6443", f"https://127.0.0.1:{port}")
        config.touch(mode=0o600)
        config.write_text(text)
        lines += [
            f"  export KUBECONFIG={config}",
            f"  kubectl get nodes     # or: coebench lab exec {name} kubectl get nodes",
        ]
    elif coe == "swarm":
        lines += [
            f"  export DOCKER_HOST={bay.access().url}",
            f"  docker node ls        # or: coebench lab exec {name} docker node ls",
        ]
    elif coe == "mesos":
        marathon, master = start(bay, "10.77.0.1", 8080), start(bay, "10.77.0.1", 5050)
        lines += [
            f"  curl http://127.0.0.1:{marathon}/v2/apps        # the Marathon-compatible API",
            f"  curl http://127.0.0.1:{master}/slaves           # the Mesos master",
        ]
    else:  # an engine without a client that everybody has, or one that a package brought
        lines.append(f"  coebench lab exec {name} {bay.state.layout.nodes[0]}: ps ax")
    lines.append(f"  coebench lab down {name}")
    return "\n".join(lines)


def start(bay: LabBay, address: str, port: int) -> int:
    """Run a relay in the background; returns its port on 127.0.0.1. Raises BayFailed."""
    assert bay.state.switch
    joins = cgroups.create(f"{bay.name}/relay", 0, 0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        join = "".join(f"echo $$ > {f}; " for f in joins)
        argv = [sys.executable, "-m", __name__, str(listener.fileno()), str(bay.state.switch.pid), address, str(port)]
        with open(bay.folder / "relay.log", "ab") as log:
            p = subprocess.Popen(
                ["sh", "-c", join + 'exec "$@"', "sh", *argv],
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )
        if p.poll() is not None:
            raise BayFailed(f"the relay to {address}:{port} ended at once")
        p.returncode = 0  # it outlives us by design
        return int(listener.getsockname()[1])


async def _serve(listener: socket.socket, address: str, port: int) -> None:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(address, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
        writer.close()
        there_writer.close()

    server = await asyncio.start_server(one, sock=listener)
    await server.serve_forever()


if __name__ == "__main__":
    fd, pid, to_address, to_port = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    outside = socket.socket(fileno=fd)
    with netns.entered(pid):
        asyncio.run(_serve(outside, to_address, to_port))
