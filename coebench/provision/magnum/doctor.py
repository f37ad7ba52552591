"""Whether a plan has a chance at a cloud's Magnum, before an hour is wasted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ...contract import BaySpec, CoebenchError
from ...lab.doctor import Finding
from . import failures, owner, template
from .cloud import Cloud, connect
from .clusters import SYNC, Clusters
from .provisioner import MagnumProvisioner

# Resources of a bay's stack with three nodes, counted in Magnum 13's own templates on Heat 21; for more nodes an estimate.
STACK = {"k8s": 83, "swarm": 88, "mesos": 57}
MORE = 22  # for each further node
HEAT_LIMIT = 1000  # Heat's own default of max_resources_per_stack


# option → a template's attribute of the same meaning, the service that has it, and how the SDK finds it
PARTS = {
    "image": ("image_id", "image", "find_image"),
    "flavor": ("flavor_id", "compute", "find_flavor"),
    "master-flavor": ("master_flavor_id", "compute", "find_flavor"),
    "keypair": ("keypair_id", "compute", "find_keypair"),
    "network": ("external_network_id", "network", "find_network"),
}


def findings(nodes: int, bays: int, subjects: Mapping[str, BaySpec] | None = None) -> tuple[Finding, ...]:
    """For so many bays at once of so many nodes each; with subjects, by their names, also whether what they name is there, and
    whether the quotas of cores and memory are enough for the largest."""
    try:
        cloud = connect()
    except CoebenchError as e:
        return (Finding("no", "cloud", str(e)),)
    clusters = Clusters(cloud)
    found = [Finding("ok", "cloud", f"{cloud.name}, region {cloud.region or 'default'}, project {cloud.project}")]
    found += [_versions(cloud), *_coes(clusters)]
    needs = [Need()]
    for name, spec in (subjects or {}).items():
        told, need = _subject(clusters, name, spec)
        found += told
        needs.append(need)
    largest = max(needs, key=lambda n: (n.cores, n.memory))
    found += [*_quota(clusters, bays), *_compute(cloud, nodes, bays, largest), *_heat(cloud, nodes)]
    try:
        mine, templates = clusters.ours(owner.left)
        names = [f"cluster {c.name}" for c in mine] + [f"template {t.name}" for t in templates]
        told_of = f"{', '.join(names[:4])} (coebench clean --provisioner magnum)" if names else "none"
        found.append(Finding("note" if names else "ok", "leftovers", told_of))
    except CoebenchError as e:
        found.append(Finding("no", "clusters", str(e)))
    return tuple(found)


class Need(msgspec.Struct, frozen=True):
    """What one bay takes of Nova, in cores and MiB; 0 where its flavors are not known."""

    cores: int = 0
    memory: int = 0


def _subject(clusters: Clusters, name: str, spec: BaySpec) -> tuple[list[Finding], Need]:
    """Whether a bay of this kind could be asked for, and what it takes."""
    cloud = clusters.cloud
    provisioner = MagnumProvisioner(clusters=clusters)
    try:
        provisioner.check(spec)
        options = template.options(cloud, spec)
        given = {option: options.get(option) for option in PARTS}
        if named := options.get("template"):
            theirs = provisioner.template(named, spec)
            given |= {o: getattr(theirs, attribute, None) for o, (attribute, _, _) in PARTS.items() if not given[o]}
    except CoebenchError as e:
        return [Finding("no", name, str(e))], Need()
    sdk = _sdk(cloud)
    lacking, unknown, there = [], [], {}
    for option, (_, service, find) in PARTS.items():
        if not given[option] or (cloud.lab and not cloud.has(service)):
            continue
        try:
            there[option] = getattr(getattr(sdk, service), find)(given[option], ignore_missing=True)
        except Exception as e:  # the SDK's own, keystoneauth's, or what a strange catalogue makes of them
            unknown.append(f"{option} {given[option]}: {failures.explained(str(e))[:120]}")
            continue
        if there[option] is None:
            lacking.append(f"{option} {given[option]}")
    if lacking:
        return [Finding("no", name, f"not there, or not this project's: {', '.join(lacking)}")], Need()
    told = ", ".join(f"{option} {given[option]}" for option in there) or "nothing that it names can be looked at"
    found = [Finding("ok", name, f"there: {told}" if there else told)]
    found += [Finding("note", name, f"can't be looked at: {text}") for text in unknown]
    node = there.get("flavor")
    control = there.get("master-flavor") or node
    if node is None or control is None:
        return found, Need()
    many = spec.nodes, template.masters(spec, options)
    return found, Need(cores=many[0] * node.vcpus + many[1] * control.vcpus, memory=many[0] * node.ram + many[1] * control.ram)


def _sdk(cloud: Cloud) -> Any:
    """OpenStack's SDK with our session, for services that are asked for names."""
    from openstack.config import cloud_region
    from openstack.connection import Connection

    region = cloud_region.from_session(cloud.session, region_name=cloud.region, interface=cloud.interface)
    return Connection(config=region)


def _versions(cloud: Cloud) -> Finding:
    (a, b), (c, d) = cloud.least, cloud.most
    told = f"microversions {a}.{b} to {c}.{d}; looks at its stacks every {SYNC:g} s"
    if cloud.bays:
        return Finding(
            "note", "Magnum", f"{told}; of before clusters: asked by /v1/bays; no node can be replaced, no bay upgraded"
        )
    if cloud.most < (1, 7):
        return Finding("note", "Magnum", f"{told}; before 1.7: no node can be replaced, no bay upgraded")
    if cloud.most < (1, 8):
        return Finding("note", "Magnum", f"{told}; before 1.8: no bay can be upgraded")
    if cloud.most < (1, 10):
        return Finding("note", "Magnum", f"{told}; before 1.10")
    return Finding("ok", "Magnum", told)


def _coes(clusters: Clusters) -> list[Finding]:
    found = []
    for coe in template.COES:
        try:
            offered = [w for w in template.words(clusters.cloud, coe) if clusters.offers(w)]
        except CoebenchError as e:
            found.append(Finding("no", coe, str(e)))
            continue
        found.append(
            Finding("ok", coe, f"offered, as {' and '.join(offered)}")
            if offered
            else Finding("note", coe, f"not offered: {failures.RELEASES}")
        )
    return found


def _quota(clusters: Clusters, bays: int) -> list[Finding]:
    """Magnum's own quota of clusters."""
    project = clusters.cloud.project
    if clusters.cloud.bays:
        return [Finding("note", "quota", "clusters: servers of before clusters (/v1/bays) have none")]
    try:
        limit = clusters.cloud.magnum.quotas.get(project, "Cluster").hard_limit
    except Exception as e:  # many clouds do not show it to users
        return [Finding("note", "quota", f"clusters: not shown ({failures.explained(str(e))[:120]})")]
    have = len(clusters.all())
    fits = limit < 0 or have + bays <= limit
    return [Finding("ok" if fits else "no", "quota", f"clusters: {have} there, {bays} wanted, {limit} allowed")]


def _compute(cloud: Cloud, nodes: int, bays: int, need: Need) -> list[Finding]:
    """Nova's: a server for each node and each master; cores and memory where flavors are known."""
    if not cloud.has("compute"):
        return [Finding("note", "compute", "no Nova in the catalogue: the lab's nodes need none")] if cloud.lab else []
    try:
        answer: Any = cloud.rest("GET", "/limits", "compute", raise_exc=False)
    except CoebenchError as e:
        return [Finding("note", "compute", str(e))]
    if answer.status_code != 200:
        return [Finding("note", "compute", f"limits are not shown ({answer.status_code})")]
    limits = answer.json()["limits"]["absolute"]
    found = []
    for what, most, used, wanted in (
        ("servers", limits["maxTotalInstances"], limits["totalInstancesUsed"], bays * (nodes + 1)),
        ("cores", limits.get("maxTotalCores", -1), limits.get("totalCoresUsed", 0), bays * need.cores),
        ("memory, MiB", limits.get("maxTotalRAMSize", -1), limits.get("totalRAMUsed", 0), bays * need.memory),
    ):
        if wanted:
            fits = most < 0 or used + wanted <= most
            told = f"{used} there, {wanted} wanted, {most if most >= 0 else 'any number'} allowed"
            found.append(Finding("ok" if fits else "no", what, told))
    return found


def _heat(cloud: Cloud, nodes: int) -> list[Finding]:
    if cloud.lab:
        return []
    largest = max(STACK.values()) + max(0, nodes - 3) * MORE
    told = f"about {largest} resources in a bay's stack (an estimate); Heat's default limit is {HEAT_LIMIT}"
    return [
        Finding(
            "ok" if largest <= HEAT_LIMIT else "note",
            "stack",
            told + ("" if largest <= HEAT_LIMIT else ": ask whether yours is higher"),
        )
    ]
