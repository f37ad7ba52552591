"""HTTP to Marathon and Mesos: who gets the login, and where a redirect may lead."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter

from coebench.contract import Access, BadInput, EngineError
from coebench.contract.tls import relax_session

HOPS = 5  # redirects of one request, at most


class Session(requests.Session):
    """Sends the login to the origin of Marathon's URL and to no other.

    A redirect is followed with the method and the body that were asked for: the usual client makes a GET of a POST, which then
    does nothing. What needs a login, or changes something, is not followed to another origin: EngineError names both.
    """

    def __init__(self, access: Access) -> None:
        super().__init__()
        self.trust_env = False
        self.home = access.url
        self.login = login(access)
        self.mount("http://", HTTPAdapter(pool_maxsize=32))
        self.mount("https://", HTTPAdapter(pool_maxsize=32))
        relax_session(self)

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **more: Any) -> requests.Response:
        where, verb = str(url), str(method)
        headers, more["allow_redirects"] = dict(more.pop("headers", None) or {}), False
        for _ in range(HOPS + 1):
            private = bool(self.login) and not _elsewhere(self, self.home, where)
            more["headers"] = headers | ({"Authorization": self.login} if private else {})
            answer = super().request(verb, where, *args, **more)
            if not answer.is_redirect:
                return answer
            target = urljoin(where, answer.headers["location"])
            answer.close()
            if _elsewhere(self, where, target) and (private or verb.upper() not in ("GET", "HEAD")):
                why = "the login is not sent to another origin" if private else "a change is not repeated at another origin"
                raise EngineError(f"{verb} {_bare(where)}", f"it is redirected to {_bare(target)}: {why}; use that one's URL")
            where = target
            more.pop("params", None)  # the redirect's address has them
        raise EngineError(f"{verb} {_bare(where)}", f"more than {HOPS} redirects")


def _elsewhere(session: Any, one: str, other: str) -> bool:
    """Whether another origin is meant; the same host's https in place of http is none."""
    return bool(session.should_strip_auth(one, other))


def login(access: Access) -> str:
    """The header that signs in; empty without a login. Raises BadInput, which never holds the secret."""
    if access.token:
        token = access.token.strip()  # a file's last line end is no part of it
        if not (token.isascii() and token.isprintable() and token):
            raise BadInput("Marathon's token holds characters that no token has (line ends, or other than ASCII)")
        return f"token={token}"
    if not access.user:
        return ""
    if ":" in access.user:
        raise BadInput("Marathon's user name holds a ':', which basic authentication can't send")
    if any(ord(c) < 32 or ord(c) == 127 for c in access.user + access.password):
        raise BadInput("Marathon's user name or password holds a line end or another control character")
    return "Basic " + base64.b64encode(f"{access.user}:{access.password}".encode()).decode()


def _bare(url: str) -> str:
    """An address without its query and without a login."""
    head, sep, rest = url.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{head}{sep}{host.rpartition('@')[2]}{slash}{path}"
