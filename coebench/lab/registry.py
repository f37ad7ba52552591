"""A bay's registry: Debian's docker-registry on a host of its own, what is brought there, and what it has sent."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..contract import CoebenchError, EngineError, Pushed
from ..images import Registry, Where, fresh, read
from . import plan
from .bay import LabBay
from .host import Host

# HOST - - [date] "GET /v2/NAME/blobs/DIGEST HTTP/1.1" 200 BYTES …
_SENT = re.compile(r'^(\S+) - \S* \[[^]]*\] "GET /v2/\S+/blobs/\S+ [^"]*" 20[06] (\d+) ', re.M)


@contextlib.contextmanager
def running(bay: LabBay, layer: Path) -> Iterator[LabRegistry]:
    """A registry in a bay, and the bay's engine told of it. Raises Unsupported before anything is done where the engine pulls
    from none, BayFailed."""
    with bay.network():
        told = bay.engine.pull(bay.hosts, True)
        try:
            yield LabRegistry(bay, bay.add_registry(layer), told)
        except BaseException:
            with contextlib.suppress(CoebenchError, OSError):  # why the trial ended is the news, and its bay goes
                _undo(bay)
            raise
        _undo(bay)


def _undo(bay: LabBay) -> None:
    bay.drop_registry()
    bay.engine.pull(bay.hosts, False)


class LabRegistry:
    """The contract's ImageRegistry."""

    def __init__(self, bay: LabBay, host: Host, told: str) -> None:
        self.about = f"docker-registry (Debian) at {plan.registry()}, plain HTTP; {told}"
        self._images = Path(bay.state.images)
        self._log = host.folder / "upper/var/log/registry.log"
        self._names = {h.spec.address: h.spec.name for h in bay.hosts}
        self._there = Registry(Where(plan.registry(), "", plain=True))

    def push(self, image: str, name: str, *, filler: int, seed: int) -> Pushed:
        archive = self._images / f"{image}.tar"
        if not archive.exists():
            raise EngineError(f"pushing {image}", f"the bay has no such image (it has {', '.join(self._known())})")
        made, unpacked = fresh(read(archive)[0], name, filler=filler, seed=seed)
        return Pushed(name=self._there.push(made), size=made.size, unpacked=unpacked, layers=len(made.layers))

    def _known(self) -> list[str]:
        return sorted(f.stem for f in self._images.glob("*.tar"))

    def sent(self) -> Mapping[str, int]:
        return sent(self._log.read_text(errors="replace"), self._names)


def sent(log: str, names: Mapping[str, str]) -> dict[str, int]:
    """Bytes of blobs by who fetched them, from a registry's log; `names`: address → host."""
    found: Counter[str] = Counter()
    for client, size in _SENT.findall(log):
        address = client.rpartition(":")[0] or client
        found[names.get(address, address)] += int(size)
    return dict(found)
