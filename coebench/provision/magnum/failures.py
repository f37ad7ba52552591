"""What a failure means and what to do: Magnum's, Heat's, Keystone's and the engines' words, sorted.

Each advice names where it comes from; where that is a vendor's rule, it says so.
"""

from __future__ import annotations

import re

import msgspec
from keystoneauth1 import exceptions as ka
from magnumclient import exceptions as mc

from ...contract import BadInput, BayFailed, CoebenchError, PhaseTimeout

RELEASES = (
    "Magnum up to 13 (Xena) offers kubernetes, swarm and mesos; 14 to 17 kubernetes and swarm; 18 and later kubernetes alone"
)


class Kind(msgspec.Struct, frozen=True):
    """One kind of failure. `pattern` is looked for in whatever text there is, without regard to case."""

    name: str
    pattern: str
    advice: str
    source: str


KINDS = (
    Kind(
        "database pool exhausted",
        r"QueuePool limit|TimeoutError: QueuePool|too many connections",
        "raise [database] max_pool_size of Heat and Magnum to twice their workers, or create fewer bays at once",
        "a vendor's rule for Heat: docs.xloud.tech, orchestration, scaling",
    ),
    Kind(
        "Heat's limit of resources",
        r"max_resources_per_stack|Maximum resources per stack exceeded",
        "set [DEFAULT] max_resources_per_stack in heat.conf to -1 (no limit): the default of 1000 is full at about 45 nodes",
        "Heat's sample configuration; 22 resources a node, counted in Magnum 13's templates",
    ),
    Kind(
        "message timed out",
        r"MessagingTimeout|Timed out waiting for a reply",
        "raise rpc_response_timeout (1200 is in use) and num_engine_workers of Heat; look at RabbitMQ's queues",
        "Red Hat OpenStack Platform 17.1, tips for undercloud and overcloud services",
    ),
    Kind(
        "too many open files",
        r"too many open files|EMFILE",
        "raise RabbitMQ's and the services' limit of file descriptors (LimitNOFILE)",
        "RabbitMQ's production checklist",
    ),
    Kind(
        "signal not received in time",
        r"WaitCondition.*tim|wait condition.*tim|Timed out waiting.*signal",
        "a node could not reach Heat's or Magnum's endpoint, or pulled its images too slowly: its cloud-init log says which",
        "Magnum's troubleshooting guide",
    ),
    Kind(
        "quota",
        r"quota|Request Entity Too Large|over limit|limit exceeded|ResourceLimitExceeded|maximum clusters per project",
        "ask for more quota (coebench doctor --provisioner magnum prints what the plan needs), or use fewer or smaller nodes",
        "Magnum's, Nova's and Neutron's quotas",
    ),
    Kind(
        "no host has room",
        r"No valid host",
        "no hypervisor fits the flavor: a smaller flavor, fewer nodes, or another availability zone",
        "Nova's scheduler",
    ),
    Kind("keypair missing", r"keypair.*(not|could)|Unable to find keypair", "name one of your keypairs: keypair=NAME", "Nova"),
    Kind(
        "image unfit",
        r"os_distro|image .*(not found|could not be found)",
        "the image has to be there and carry os_distro",
        "Magnum",
    ),
    Kind(
        "flavor missing",
        r"flavor.*(not found|could not be found|Unable to find)",
        "name a flavor that is there: flavor=NAME",
        "Nova",
    ),
    Kind(
        "network missing",
        r"(external )?network.*(not found|could not be found|Unable to find)",
        "name an external network that is there: network=NAME",
        "Neutron",
    ),
    Kind(
        "certificates",
        r"CertificatesToClusterFailed|certificate|x509|Barbican",
        "look at [certificates] cert_manager_type of Magnum, and at Barbican if that is it",
        "Magnum",
    ),
    Kind("COE not offered", r"attribute coe\b|Value should be one of", RELEASES, "Magnum's release notes"),
    Kind(
        "no driver for that COE and image",
        r"ClusterTypeNotSupported|Cluster type \(.*not supported",
        "the image must be there and its os_distro one that a driver of this Magnum is for (openstack coe has no list: ask its "
        "operator); (vm, None, …) means an image without os_distro",
        "Magnum's drivers",
    ),
    Kind("trust", r"trust", "the trustee's domain of Magnum is not set up, or application credentials are restricted", "Magnum"),
    Kind(
        "busy",
        r"already.* in progress|OperationInProgress|when status is",
        "another operation is under way: wait for its end",
        "Magnum",
    ),
)


def kind(text: str) -> Kind | None:
    """The first kind whose pattern is in the text."""
    for one in KINDS:
        if re.search(one.pattern, text, re.I | re.S):
            return one
    return None


def explained(text: str, evidence: str = "") -> str:
    """The text on one line, with what to do where that is known from it, or else from the evidence."""
    line = " ".join(text.split())[:400]
    found = kind(text) or kind(evidence)
    return f"{found.name}: {line}. What to do: {found.advice} ({found.source})" if found else line


def failed(what: str, reason: str, evidence: str = "") -> BayFailed:
    """For a cluster that is …_FAILED, or did not get where it should. Its status reason often names a resource alone; the
    cause is then in the evidence."""
    error = BayFailed(f"{what}: {explained(reason, evidence)}", evidence)
    error.kind = _name(reason, evidence)
    return error


def stuck(what: str, seconds: float, status: str, reason: str, evidence: str = "") -> PhaseTimeout:
    """For a cluster that stays as it is."""
    error = PhaseTimeout(what, seconds, f"it is {status}: {explained(reason, evidence)}", evidence)
    error.kind = _name(reason, evidence) or error.kind
    return error


def _name(*texts: str) -> str:
    return next((found.name for text in texts if (found := kind(text))), "")


def text(error: Exception) -> str:
    """What an error of the clients says, with the details that keystoneauth keeps apart, on one line."""
    details = getattr(error, "details", None) if isinstance(error, ka.HttpError) else None
    return " ".join(f"{error} {details or ''}".split())


def told(what: str, error: Exception) -> CoebenchError:
    """An error of the clients in one line: BadInput where the user can do something about it, BayFailed where the cloud can."""
    said = text(error)[:400]
    if isinstance(error, ka.Unauthorized | mc.Unauthorized):
        return BadInput(f"{what}: wrong user, password, project or credential, or a token that has expired ({said})")
    if isinstance(error, ka.EndpointNotFound | ka.EmptyCatalog | mc.EndpointNotFound):
        return BadInput(f"{what}: its catalogue has no container-infra service, so there is no Magnum for this project")
    if isinstance(error, ka.ConnectTimeout):  # what was asked for may be under way all the same
        return BayFailed(f"{what}: no answer ({said}): its API hangs, or something on the way there drops what is sent")
    if isinstance(error, ka.ConnectFailure | ka.DiscoveryFailure | mc.ConnectionRefused):
        return BadInput(f"{what}: can't be reached ({said})")
    if isinstance(error, ka.MissingRequiredOptions | ka.auth_plugins.MissingAuthPlugin):
        return BadInput(f"{what}: settings are missing: {said}")
    status = getattr(error, "http_status", None) or 0
    if 400 <= status < 500 or isinstance(error, mc.HTTPClientError):
        refused = BadInput(f"{what}: {explained(said)}")
        refused.kind = _name(said)
        return refused
    return failed(what, said)
