"""Which cloud, and a session with it: clouds.yaml, OS_… in the environment, or the lab's own Magnum."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from keystoneauth1 import exceptions as ka
from keystoneauth1.session import Session
from magnumclient import exceptions as mc
from magnumclient.v1 import client

from ...contract import BadInput, BayFailed
from ...lab.magnum import plane
from . import failures
from .bays import Bays, following

SERVICE = "container-infra"
OLDEST = "container"  # the same service's type before Newton
ANSWER = 60.0  # seconds that a service may be silent before a request is given up; a clouds.yaml's api_timeout wins
NEWEST = "1.10"  # the microversion that is asked for; a server that has less is asked for what it has
NONE_NAMED = (
    "no cloud is named: --os-cloud NAME of your clouds.yaml, OS_CLOUD, or OS_AUTH_URL and the rest of an openrc; "
    "or coebench lab up magnum, for a Magnum on this machine"
)


class Cloud:
    """A session with one project of one cloud. `lab` is the lab's own Magnum, if it is that; `override` the URL that the settings
    have for a service in place of the catalogue's, or ""."""

    def __init__(
        self,
        name: str,
        session: Session,
        region: str | None,
        interface: str,
        lab: plane.Plane | None,
        override: Callable[[str], str] = lambda service: "",
    ) -> None:
        self.name = name
        self.override = override
        self.session = session
        self.region = region
        self.interface = interface
        self.lab = lab
        self.service = SERVICE if self.has(SERVICE) or not self.has(OLDEST) else OLDEST
        self.bays = False
        self.least, self.most = self._versions()
        self.version = min(self.most, _number(NEWEST))
        self.magnum: Any = Bays(self._v1) if self.bays else self._client()

    def _client(self) -> Any:
        made = client.Client(
            session=self.session,
            endpoint_override=self._override(self.service) or None,
            service_type=self.service,
            interface=self.interface,
            region_name=self.region,
            api_version=f"{self.version[0]}.{self.version[1]}",
        )
        for manager in (made.clusters, made.cluster_templates):  # the client's own takes the first page for all
            manager.list = partial(_all, manager)
        return made

    def _override(self, service: str) -> str:
        """The settings' own URL of a service, Magnum's with the version that its client leaves out; "" for the catalogue's."""
        url = self.override(service).rstrip("/")
        if not url or service not in (SERVICE, OLDEST) or re.search(r"/v\d+$", url):
            return url
        return f"{url}/v1"

    def speak_bays(self) -> None:
        """Ask by /v1/bays from now on, as is done by itself where there are no clusters."""
        self.bays, self.magnum = True, Bays(self._v1)

    @property
    def project(self) -> str:
        return str(self.session.get_project_id())

    def where(self) -> dict[str, str]:
        """What a journal needs, besides a resource's name, to find it again; nothing secret."""
        return {"cloud": self.name, "region": self.region or "", "project": self.project}

    def _versions(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The least and the greatest microversion of the server. Raises BadInput, BayFailed."""
        answer = self.rest("GET", "/", raise_exc=False)
        least = answer.headers.get("OpenStack-API-Minimum-Version", "")
        most = answer.headers.get("OpenStack-API-Maximum-Version", "")
        try:
            body = answer.json()
            self.bays = "bays" in body and "clusters" not in body
            listed = [v for v in body.get("versions", []) if v.get("id") == "v1"] or [{}]
            least = least.rpartition(" ")[2] or listed[0].get("min_version", "1.1")
            most = most.rpartition(" ")[2] or listed[0].get("max_version", "1.1")
            return _number(least), _number(most)
        except (ValueError, AttributeError):
            raise BadInput(
                f"what answers for {self.service} at {self.name} is no Magnum: {answer.status_code} {answer.text[:80]!r}"
            ) from None

    def _v1(self, method: str, path: str, **more: Any) -> Any:
        """A plain request below /v1 of Magnum. Raises keystoneauth's errors."""
        base = self._override(self.service) or str(self.session.get_endpoint(**self._filter(self.service))).rstrip("/")
        where = base if base.endswith("/v1") else f"{base}/v1"
        headers = {"OpenStack-API-Version": f"{self.service} latest"}
        return self.session.request(f"{where}{path}", method, endpoint_filter=self._filter(self.service), headers=headers, **more)

    def _filter(self, service: str) -> dict[str, Any]:
        return {"service_type": service, "interface": self.interface, "region_name": self.region}

    def rest(self, method: str, path: str, service: str = "", **more: Any) -> Any:
        """A plain request to a service of the catalogue (Magnum, if none is named), for what the client has no manager for.
        Raises BadInput, BayFailed."""
        headers = {} if service else {"OpenStack-API-Version": f"{self.service} latest"}
        headers |= more.pop("headers", {})
        asked = service or self.service
        try:
            return self.session.request(
                path,
                method,
                endpoint_filter=self._filter(asked),
                endpoint_override=self._override(asked) or None,
                headers=headers,
                **more,
            )
        except ka.ClientException as e:
            raise failures.told(f"asking {self.name}", e) from e

    def has(self, service: str) -> bool:
        """Whether the catalogue, or the settings, have such a service."""
        if self._override(service):
            return True
        try:
            found = self.session.get_endpoint(**self._filter(service))
        except ka.ClientException:
            return False
        return bool(found)

    def resize(self) -> bool:
        """Whether the server can take named nodes away (microversion 1.7)."""
        return not self.bays and self.most >= (1, 7)

    def upgrade(self) -> bool:
        """Whether the server has a call to upgrade a bay (microversion 1.8); whether its driver can is another matter."""
        return not self.bays and self.most >= (1, 8)


def connect() -> Cloud:
    """The cloud that is named, or the lab's own Magnum. Raises BadInput: none named or reached, wrong password, no Magnum."""
    logging.getLogger("keystoneauth").setLevel(logging.ERROR)  # what it warns of comes as an error, which is told in one line
    named = os.environ.get("OS_CLOUD") or os.environ.get("OS_AUTH_URL")
    lab = None if named else plane.opened()
    if lab and not (lab.ready and lab.alive):
        raise BadInput("the lab's Magnum is not up any more: coebench lab down magnum, then coebench lab up magnum")
    name, session, region, interface, override = (*_of_lab(lab), lambda _: "") if lab else _configured(bool(named))
    session.timeout = session.timeout or ANSWER  # the clients' own is none: one that is never answered would wait for ever
    try:
        session.get_token()
        return Cloud(name, session, region, interface, lab, override)
    except (ka.ClientException, mc.ClientException) as e:
        raise BadInput(str(failures.told(f"signing in at {name}", e))) from e
    except BayFailed as e:  # nothing was asked for yet, so there is nothing to take away
        raise BadInput(str(e)) from e


def _of_lab(lab: plane.Plane) -> tuple[str, Session, str | None, str]:
    from keystoneauth1.identity import v3

    e = lab.environment()
    auth = v3.Password(
        auth_url=e["OS_AUTH_URL"],
        username=e["OS_USERNAME"],
        password=e["OS_PASSWORD"],
        project_name=e["OS_PROJECT_NAME"],
        user_domain_name="Default",
        project_domain_name="Default",
    )
    return f"the lab's Magnum {lab.version}", Session(auth=auth), "RegionOne", "public"


def _configured(named: bool) -> tuple[str, Session, str | None, str, Callable[[str], str]]:
    import openstack.config
    from openstack import exceptions as sdk

    try:
        loader = openstack.config.OpenStackConfig(app_name="coebench")
        clouds = [c for c in loader.get_cloud_names() if c not in ("defaults", "envvars")]
        if not named and len(clouds) != 1:
            have = f" (your clouds.yaml has {', '.join(sorted(clouds))})" if clouds else ""
            raise BadInput(NONE_NAMED + have)
        wanted = os.environ.get("OS_CLOUD") or (clouds[0] if not named else None)
        region = loader.get_one(cloud=wanted)
        return (
            region.name or str(region.auth.get("auth_url")),
            region.get_session(),
            region.get_region_name(SERVICE),
            region.get_interface(SERVICE) or "public",
            lambda service: region.get_endpoint(service) or "",
        )
    except (sdk.ConfigException, sdk.SDKException, ka.ClientException) as e:
        raise BadInput(f"the cloud's settings can't be used: {' '.join(str(e).split())}") from e


def _number(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def _all(manager: Any) -> list[Any]:
    """All items of a client's manager, which a server may give in parts. Raises BayFailed if the parts have no end."""
    found: list[Any] = []
    seen: set[str] = set()
    path, query = str(manager._path()), ""
    while True:
        _, body = manager.api.json_request("GET", path + query)
        found += [manager.resource_class(manager, item, loaded=True) for item in body[path.rpartition("/")[2]]]
        if not (query := following(body, seen)):
            return found
