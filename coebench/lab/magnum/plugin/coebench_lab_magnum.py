"""A Magnum driver whose bays are the lab's: real engines in namespaces of this machine.

It runs inside magnum-conductor, with Magnum's Python and without coebench's. What it is asked for goes into a folder of the
spool, as spec.json; coebench's keeper, outside, builds that and writes state.json. Both are replaced whole, and each carries
the number of the request (`request`) that it is about, so that an old state is never taken for the answer to a new request.
"""

import json
import os
import shutil

from magnum.common import clients
from magnum.conductor.handlers.common import cert_manager
from magnum.drivers.common import driver
from magnum.objects import fields

try:
    from magnum.conductor.handlers.common import trust_manager
except ImportError:  # Magnum 23 makes no trusts
    trust_manager = None

SPOOL = os.environ.get("COEBENCH_SPOOL", "/var/lib/spool")
Status = fields.ClusterStatus
COES = ("kubernetes", "swarm", "swarm-mode", "mesos")


class LabDriver(driver.Driver):
    """For images whose os_distro is "coebench-lab"."""

    @property
    def provides(self):
        return [{"server_type": "vm", "os": "coebench-lab", "coe": coe} for coe in COES]

    # what the conductor asks

    def create_cluster(self, context, cluster, cluster_create_timeout):
        folder = _folder(cluster)
        os.makedirs(folder, mode=0o700)
        template = cluster.cluster_template
        authority = cert_manager.get_cluster_ca_certificate(cluster, context=context)
        labels = dict(template.labels or {})
        labels.update(cluster.labels or {})
        spec = {
            "request": 1,
            "uuid": cluster.uuid,
            "name": cluster.name,
            "coe": template.coe,
            "nodes": _workers(cluster),
            "masters": cluster.master_count,
            "remove": [],
            "labels": {str(k): str(v) for k, v in labels.items()},
            "tls": not template.tls_disabled,
            "ca_cert": _text(authority.get_certificate()),
            "ca_key": _text(authority.get_decrypted_private_key()),
            "delete": False,
            "upgrades": 0,
            "batch": 1,
        }
        _write(os.path.join(folder, "spec.json"), spec)
        cluster.stack_id = "coebench-" + cluster.uuid

    def update_cluster(self, context, cluster, scale_manager=None, rollback=False):
        cluster.default_ng_worker.status = Status.UPDATE_IN_PROGRESS
        _change(cluster, nodes=_workers(cluster), remove=[])

    def resize_cluster(self, context, cluster, resize_manager, node_count, nodes_to_remove, nodegroup=None):
        _change(cluster, nodes=_workers(cluster), remove=list(nodes_to_remove or []))

    def upgrade_cluster(self, context, cluster, cluster_template, max_batch_size, nodegroup, scale_manager=None, rollback=False):
        spec = _read(_folder(cluster), "spec.json")
        if not spec or spec["labels"].get("coebench_nodes") != "weightless":
            raise NotImplementedError("the lab has one release of each engine: there is nothing to upgrade to")
        cluster.cluster_template_id = cluster_template.uuid
        _change(cluster, upgrades=spec["upgrades"] + 1, batch=max_batch_size, remove=[])

    def delete_cluster(self, context, cluster):
        for group in cluster.nodegroups:
            group.status = Status.DELETE_IN_PROGRESS
            group.save()
        if os.path.exists(os.path.join(_folder(cluster), "spec.json")):
            _change(cluster, delete=True)

    def create_nodegroup(self, context, cluster, nodegroup):
        _change(cluster, nodes=_workers(cluster), remove=[])

    update_nodegroup = create_nodegroup

    def delete_nodegroup(self, context, cluster, nodegroup):
        nodegroup.status = Status.DELETE_IN_PROGRESS
        nodegroup.save()
        _change(cluster, nodes=_workers(cluster), remove=[])

    def create_federation(self, context, federation):
        raise NotImplementedError("the lab has no federations")

    update_federation = delete_federation = create_federation

    # what Magnum's periodic task asks, every ten seconds, about clusters in progress

    def update_cluster_status(self, context, cluster, use_admin_ctx=False):
        folder = _folder(cluster)
        if not os.path.isdir(folder):
            if cluster.status == Status.DELETE_IN_PROGRESS:  # it never came to be built
                self._gone(context, cluster)
            return
        spec, state = _read(folder, "spec.json"), _read(folder, "state.json")
        if not spec or not state or state["request"] != spec["request"]:
            return
        if state["phase"] == "deleted":
            self._gone(context, cluster)
            shutil.rmtree(folder, ignore_errors=True)
            return
        verb = cluster.status.split("_")[0]
        failed = state["phase"] == "failed"
        outcome = verb + ("_FAILED" if failed else "_COMPLETE")
        cluster.api_address = state["api"]
        cluster.coe_version = state["version"]
        cluster.status_reason = state["reason"] if failed else f"Stack {verb} completed successfully"
        addresses = list(state["nodes"])
        for group in cluster.nodegroups:
            if group.status == Status.DELETE_IN_PROGRESS and not failed:
                group.destroy()
                continue
            if group.role == "master":
                group.node_addresses = state["masters"]
            else:
                group.node_addresses, addresses = addresses[: group.node_count], addresses[group.node_count :]
            if group.status is None or group.status.endswith("IN_PROGRESS"):
                group.status = outcome
            group.save()
        cluster.status = outcome
        cluster.save()

    def _gone(self, context, cluster):
        if trust_manager:
            trust_manager.delete_trustee_and_trust(clients.OpenStackClients(context), context, cluster)
        cert_manager.delete_certificates_from_cluster(cluster, context=context)
        cluster.status = Status.DELETE_COMPLETE
        cluster.save()


def _workers(cluster):
    """How many nodes the cluster is to have, over all its groups of workers."""
    groups = [g for g in cluster.nodegroups if g.role != "master" and g.status != Status.DELETE_IN_PROGRESS]
    return sum(g.node_count for g in groups)


def _folder(cluster):
    return os.path.join(SPOOL, cluster.uuid)


def _change(cluster, **changes):
    spec = _read(_folder(cluster), "spec.json")
    if not spec:
        raise RuntimeError(f"the lab has no bay for cluster {cluster.uuid}")
    spec.update(changes)
    spec["request"] += 1
    _write(os.path.join(_folder(cluster), "spec.json"), spec)


def _read(folder, name):
    try:
        with open(os.path.join(folder, name)) as f:
            return json.load(f)
    except FileNotFoundError:
        return None


def _write(path, value):
    with open(path + ".new", "w", opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
        json.dump(value, f)
    os.replace(path + ".new", path)


def _text(pem):
    return pem.decode() if isinstance(pem, bytes) else pem
