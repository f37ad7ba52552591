"""What a bay is to be like: from a subject's options, a TOML file, and what the lab knows by itself."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...contract import BadInput, BaySpec
from ...lab.engines import engine
from ...lab.magnum import plane
from ...lab.magnum.keeper import LABEL
from .cloud import Cloud

FILE = "COEBENCH_MAGNUM"  # environment: a TOML file for all bays
COES = {"k8s": ("kubernetes",), "swarm": ("swarm-mode", "swarm"), "mesos": ("mesos",)}  # ours → Magnum's, the newer first
CLASSIC = "swarm"  # Docker's Swarm of before 1.12, which no driver of coebench's speaks; the lab's Magnum means Swarm mode by it
# option → the template's attribute
ATTRIBUTES = {
    "image": "image_id",
    "flavor": "flavor_id",
    "master-flavor": "master_flavor_id",
    "keypair": "keypair_id",
    "network": "external_network_id",
    "volume": "docker_volume_size",
    "network-driver": "network_driver",
    "storage-driver": "docker_storage_driver",
    "fixed-network": "fixed_network",
    "fixed-subnet": "fixed_subnet",
    "dns-nameserver": "dns_nameserver",
    "floating-ip": "floating_ip_enabled",
    "master-lb": "master_lb_enabled",
    "tls": "tls_disabled",
}
FLAGS = ("floating-ip", "master-lb", "tls")  # yes or no
CLOUDS = ("fixed-network", "fixed-subnet", "dns-nameserver", *FLAGS)  # what the lab, which has no Neutron, knows nothing of
MASTERS = "masters"  # also --masters of `bay create`
UPGRADE = "upgrade-to"  # a template that scenario `bay` upgrades its bays to
OTHERS = ("template", "config", "weightless", "bay-timeout", MASTERS, UPGRADE)


def options(cloud: Cloud, spec: BaySpec) -> dict[str, Any]:
    """All options of a bay: the file's, then its table for the COE, then the subject's own. Raises BadInput."""
    file = spec.options.get("config") or os.environ.get(FILE)
    found: dict[str, Any] = {}
    if file:
        content = _read(Path(file))
        tables = {k: v for k, v in content.items() if k in COES}
        found = {k: v for k, v in content.items() if k not in COES} | tables.get(spec.coe, {})
    found |= spec.options
    made = [o for o in spec.options if o in ATTRIBUTES and o != "keypair"]  # a file's lines may be for other bays
    if "template" in spec.options and made:
        raise BadInput(f"{spec.coe}: a template of yours is as it is: leave out {', '.join(made)}, or template=")
    labels = {str(k): str(v) for k, v in found.pop("labels", {}).items()}
    labels |= {k.removeprefix("label."): str(found.pop(k)) for k in list(found) if k.startswith("label.")}
    found.pop("config", None)
    own = {k: str(found.pop(k)) for k in list(found) if k not in ATTRIBUTES and k not in OTHERS}
    if own and not cloud.lab:
        known = ", ".join([*ATTRIBUTES, *OTHERS, "label.NAME"])
        raise BadInput(f"magnum knows no option '{next(iter(own))}' of a bay (it has: {known})")
    for option in FLAGS:
        if option in found:
            found[option] = _flag(option, found[option])
    for option, kind, most in (("bay-timeout", float, 1e7), ("volume", int, 1e6)):
        if option in found:
            _check_number(option, found[option], kind, most)
    if cloud.lab and (theirs := [o for o in CLOUDS if o in found]):
        raise BadInput(f"{spec.coe}: the lab's Magnum has no option {', '.join(theirs)}: these are a cloud's")
    if cloud.lab:
        labels |= _of_lab(spec, own, str(found.get("weightless", "")))
    return {**found, "labels": labels}


def _check_number(option: str, value: Any, kind: type[int] | type[float], most: float) -> None:
    """Raise BadInput for what is no number from 1 to `most`, nan included."""
    try:
        fits = 1 <= kind(value) <= most
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise BadInput(f"{option}={value}: give a {'whole ' if kind is int else ''}number from 1 to {most:.0f}")


def _of_lab(spec: BaySpec, own: Mapping[str, str], weightless: str) -> dict[str, str]:
    """The labels that the lab's driver understands."""
    if spec.coe in ("k8s", "swarm", "mesos"):
        engine(spec.coe).check(BaySpec(coe=spec.coe, options=own))
    labels = {f"{LABEL}memory": str(spec.memory >> 20), f"{LABEL}timeouts": spec.timeouts}
    if spec.cpu:
        labels[f"{LABEL}cpu"] = f"{spec.cpu:g}"
    if weightless not in ("", "no"):
        labels[f"{LABEL}nodes"] = "weightless"
    return labels | {f"{LABEL}option_{k}": v for k, v in own.items()}


def words(cloud: Cloud, coe: str) -> tuple[str, ...]:
    """Magnum's words for a COE as far as coebench can use what they stand for, the newer first."""
    return COES[coe] if cloud.lab else tuple(w for w in COES[coe] if w != CLASSIC)


def weightless(options: Mapping[str, Any]) -> bool:
    """Whether a bay has no engine at all."""
    return bool(options["labels"].get(f"{LABEL}nodes") == "weightless")


def attributes(cloud: Cloud, spec: BaySpec, found: Mapping[str, Any], coe: str) -> dict[str, Any]:
    """A template's attributes. Raises BadInput for what is missing."""
    wanted: dict[str, Any] = {ATTRIBUTES[k]: v for k, v in found.items() if k in ATTRIBUTES}
    if "docker_volume_size" in wanted:
        wanted["docker_volume_size"] = int(wanted["docker_volume_size"])
    if cloud.lab:
        wanted.setdefault("image_id", plane.IMAGE)
    if "image_id" not in wanted:
        raise BadInput(
            f"{spec.coe}: name a template of yours (template=NAME), or what one is to be made of: image=NAME at least, "
            f"as options of the subject or in a TOML file named by config= or {FILE} (docs/magnum.md)"
        )
    # Magnum's Mesos has no TLS; neither have nodes without an engine
    wanted["tls_disabled"] = coe == "mesos" or weightless(found) or not found.get("tls", True)
    return wanted


def masters(spec: BaySpec, found: Mapping[str, Any]) -> int:
    """So many masters. Raises BadInput."""
    given = str(found.get(MASTERS, spec.controls))
    if not given.isdecimal() or int(given) < 1:
        raise BadInput(f"{spec.coe}: {MASTERS} is a number above 0, not '{given}'")
    return int(given)


def _flag(option: str, value: Any) -> bool:
    """A line of a TOML file may have TOML's own true and false."""
    words = {"yes": True, "no": False, "true": True, "false": False}
    if str(value).lower() not in words:
        raise BadInput(f"{option} is yes or no, not '{value}'")
    return words[str(value).lower()]


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise BadInput(f"can't read {file}: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise BadInput(f"{file} is no TOML: {e}") from None
