"""Whether a plan has a chance at a cloud's Magnum, before an hour is wasted."""

from __future__ import annotations

from typing import Any

from ...contract import BadInput, CoebenchError
from ...lab.doctor import Finding
from . import failures, owner, template
from .cloud import Cloud, connect
from .clusters import SYNC, Clusters

# Resources of a bay's stack with three nodes, counted in Magnum 13's own templates on Heat 21; for more nodes an estimate.
STACK = {"k8s": 83, "swarm": 88, "mesos": 57}
MORE = 22  # for each further node
HEAT_LIMIT = 1000  # Heat's own default of max_resources_per_stack


def findings(nodes: int, bays: int) -> tuple[Finding, ...]:
    """For so many bays at once of so many nodes each."""
    try:
        cloud = connect()
    except CoebenchError as e:
        return (Finding("no", "cloud", str(e)),)
    clusters = Clusters(cloud)
    found = [Finding("ok", "cloud", f"{cloud.name}, region {cloud.region or 'default'}, project {cloud.project}")]
    found += [_versions(cloud), *_coes(clusters), *_quota(clusters, bays), *_compute(cloud, nodes, bays), *_heat(cloud, nodes)]
    try:
        mine, templates = clusters.ours(owner.left)
        names = [f"cluster {c.name}" for c in mine] + [f"template {t.name}" for t in templates]
        told = f"{', '.join(names[:4])} (coebench clean --provisioner magnum)" if names else "none"
        found.append(Finding("note" if names else "ok", "leftovers", told))
    except CoebenchError as e:
        found.append(Finding("no", "clusters", str(e)))
    return tuple(found)


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


def _compute(cloud: Cloud, nodes: int, bays: int) -> list[Finding]:
    """Nova's: a server for each node and each master."""
    if not cloud.has("compute"):
        return [Finding("note", "compute", "no Nova in the catalogue: the lab's nodes need none")] if cloud.lab else []
    try:
        answer: Any = cloud.rest("GET", "/limits", "compute", raise_exc=False)
    except BadInput as e:
        return [Finding("note", "compute", str(e))]
    if answer.status_code != 200:
        return [Finding("note", "compute", f"limits are not shown ({answer.status_code})")]
    limits = answer.json()["limits"]["absolute"]
    allowed, used = limits["maxTotalInstances"], limits["totalInstancesUsed"]
    wanted = bays * (nodes + 1)
    fits = allowed < 0 or used + wanted <= allowed
    return [Finding("ok" if fits else "no", "servers", f"{used} there, {wanted} wanted, {allowed} allowed")]


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
