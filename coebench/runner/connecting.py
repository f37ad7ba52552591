"""How the harness connects a driver to a bay: what is the same for all drivers is done here, not in each."""

from __future__ import annotations

from typing import Any

import msgspec

from ..contract import Access, Driver, ServiceSpec, Strategy

IMAGES = "images"  # the access's option that holds where images come from: REGISTRY/PREFIX


def connect(driver: type[Driver], access: Access) -> Driver:
    """A connection. If the bay takes its images from a registry, their names are changed on the way.

    Raises what the driver's `connect` raises.
    """
    connected = driver.connect(access)
    prefix = access.options.get(IMAGES, "").strip("/")
    return ImageNames(connected, prefix) if prefix else connected  # type: ignore[return-value]


def rewritten(image: str, prefix: str) -> str:
    """An image's name with the registry's before it; one that names a registry or a path already stays as it is."""
    return image if "/" in image or not prefix else f"{prefix}/{image}"


class ImageNames:
    """A driver that asks for images by their names in a registry. Everything else is the driver's own."""

    def __init__(self, driver: Driver, prefix: str) -> None:
        self._driver = driver
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def deploy(self, spec: ServiceSpec) -> None:
        self._driver.deploy(self._renamed(spec))

    def update(self, spec: ServiceSpec, strategy: Strategy) -> None:
        self._driver.update(self._renamed(spec), strategy)

    def _renamed(self, spec: ServiceSpec) -> ServiceSpec:
        return msgspec.structs.replace(spec, image=rewritten(spec.image, self._prefix))
