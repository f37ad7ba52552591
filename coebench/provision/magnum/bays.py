"""Magnum as it was before it said "cluster": /v1/bays and /v1/baymodels, asked by plain REST, since no client has them any more.

`Bays` has the same face as a client of clusters, as far as coebench uses one: what differs in names is translated here, once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from keystoneauth1 import exceptions as ka

from ...contract import BadInput, BayFailed

Rest = Callable[..., Any]  # (method, path below /v1, json=…) → the answer; raises keystoneauth's errors

# a cluster's word → a bay's
WORDS = {"cluster_template_id": "baymodel_id", "create_timeout": "bay_create_timeout", "faults": "bay_faults"}


class Bays:
    """Stands where `magnumclient.v1.client.Client` stands for clusters. Raises keystoneauth's errors."""

    def __init__(self, rest: Rest) -> None:
        self.cluster_templates = _Models(rest)
        self.clusters = _Clusters(rest, self.cluster_templates)
        self.certificates = _Certificates(rest)


class _Models:
    """Templates, as baymodels. They name the keypair, which clusters name themselves."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def list(self) -> list[Any]:
        return [_Item(m) for m in _pages(self._rest, "baymodels")]

    def get(self, ident: str) -> Any:
        return _Item(self._rest("GET", f"/baymodels/{ident}").json())

    def create(self, **attributes: Any) -> Any:
        if "keypair_id" not in attributes and attributes.get("image_id") != "coebench-no-such-image":
            raise BadInput("this Magnum is of before clusters (/v1/bays), whose templates need a keypair: keypair=NAME")
        body = {"keypair_id": "coebench", **attributes}
        return _Item(self._rest("POST", "/baymodels", json=body).json())

    def delete(self, ident: str) -> None:
        self._rest("DELETE", f"/baymodels/{ident}")


class _Clusters:
    def __init__(self, rest: Rest, models: _Models) -> None:
        self._rest = rest
        self._models = models

    def list(self) -> list[Any]:
        return [_cluster(b) for b in _pages(self._rest, "bays")]

    def get(self, ident: str) -> Any:
        """A bay; its labels are its baymodel's where it has none: the oldest servers' bays have no such field."""
        bay = self._rest("GET", f"/bays/{ident}").json()
        if bay.get("labels") is None and bay.get("baymodel_id"):
            with contextlib.suppress(ka.HttpError):
                bay["labels"] = self._models.get(bay["baymodel_id"]).labels
        return _cluster(bay)

    def create(self, **attributes: Any) -> Any:
        attributes.pop("keypair", None)  # the baymodel has it
        body = {WORDS.get(k, k): v for k, v in attributes.items()}
        try:
            made = self._rest("POST", "/bays", json=body)
        except ka.BadRequest as e:
            if "label" not in str(e).lower() and "label" not in str(e.details).lower():
                raise
            del body["labels"]  # nothing was made: bays had none yet
            made = self._rest("POST", "/bays", json=body)
        return _cluster(made.json())

    def update(self, ident: str, patch: Sequence[Mapping[str, Any]]) -> None:
        self._rest("PATCH", f"/bays/{ident}", json=[*patch])

    def delete(self, ident: str) -> None:
        self._rest("DELETE", f"/bays/{ident}")


class _Certificates:
    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def create(self, cluster_uuid: str, csr: str) -> Any:
        return _Item(self._rest("POST", "/certificates", json={"bay_uuid": cluster_uuid, "csr": csr}).json())

    def get(self, cluster_uuid: str) -> Any:
        return _Item(self._rest("GET", f"/certificates/{cluster_uuid}").json())


class _Item(SimpleNamespace):
    """An answer's fields as attributes; a field that isn't there is None."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(**fields)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def _cluster(bay: Mapping[str, Any]) -> _Item:
    back = {theirs: ours for ours, theirs in WORDS.items()}
    return _Item({back.get(k, k): v for k, v in bay.items()})


def _pages(rest: Rest, what: str) -> list[Mapping[str, Any]]:
    """All items of a collection, which a server may give in parts."""
    found: list[Mapping[str, Any]] = []
    query, seen = "", set[str]()
    while True:
        answer = rest("GET", f"/{what}{query}").json()
        found += answer[what]
        if not (query := following(answer, seen)):
            return found


def following(answer: Mapping[str, Any], seen: set[str]) -> str:
    """The query of a list's next part, "" after the last. `seen` has those of this list. Raises BayFailed if one comes again.

    Of the link only the query counts: its host and path may be those that the server has behind a proxy.
    """
    query = str(answer.get("next") or "").partition("?")[2]
    if not query:
        return ""
    if query in seen:
        raise BayFailed(f"Magnum's list has no end: its next part is '{query}' again")
    seen.add(query)
    return f"?{query}"
