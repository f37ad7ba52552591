"""A client of the registry HTTP API, version 2, as far as pushing needs it (distribution-spec: "Pushing", "Token
authentication"). Nothing is installed for it, and no daemon runs."""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..contract import BadInput, EngineError
from .archive import MANIFEST, Image

TIMEOUT = 60.0
# What Docker Hub is called in names of images, where its API is, and how `docker login` calls it
HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
HUB_API = "registry-1.docker.io"
HUB_LOGIN = "https://index.docker.io/v1/"
_PATH = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")


class Where(msgspec.Struct, frozen=True):
    """HOST[:PORT][/PREFIX] as it stands before an image's name; `plain`: by http, not https."""

    host: str
    prefix: str
    plain: bool = False

    @classmethod
    def of(cls, text: str, plain: bool = False) -> Where:
        """From what a user wrote; http:// before it says plain. Raises BadInput."""
        scheme, sep, rest = text.rpartition("://")
        if sep and scheme not in ("http", "https"):
            raise BadInput(f"'{text}': a registry is written HOST:PORT/PREFIX")
        host, _, prefix = rest.strip("/").partition("/")
        if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?", host):
            raise BadInput(f"'{text}' names no registry: write HOST:PORT/PREFIX")
        if not sep and not ("." in host or ":" in host or host == "localhost"):
            raise BadInput(f"'{text}': the first part is a registry's HOST or HOST:PORT, as in registry.example:5000/bench")
        if prefix and not _PATH.fullmatch(prefix):
            raise BadInput(f"'{prefix}' can't stand before an image's name: lower case letters, digits and . _ - between '/'")
        if host in HUB:
            if not prefix:
                raise BadInput(f"'{text}': at Docker Hub images are a user's or an organisation's: write docker.io/NAME")
            host = HUB[0]  # as engines take it in an image's name
        return cls(host, prefix, plain or scheme == "http")

    def name(self, image: str) -> str:
        """The repository of an image."""
        return f"{self.prefix}/{image}" if self.prefix else image

    @property
    def option(self) -> str:
        """What a bay's option `images` is to be."""
        return f"{self.host}/{self.prefix}".rstrip("/")


class Registry:
    """One registry. `user` and `password`; without them, those that `docker login` left. `ca`: a file of certificates."""

    def __init__(self, where: Where, user: str = "", password: str = "", ca: Path | None = None) -> None:
        self.where = where
        self._login = f"{user}:{password}" if user else _docker_login(where.host)
        api = HUB_API if where.host in HUB else where.host
        self._base = f"{'http' if where.plain else 'https'}://{api}"
        try:
            context = ssl.create_default_context(cafile=str(ca) if ca else None)
        except (OSError, ssl.SSLError) as e:
            raise BadInput(f"can't use the certificates in {ca}: {e}") from None
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
        self._allowed: dict[str, str] = {}  # scope → Authorization

    def push(self, image: Image) -> str:
        """Bring an image; what the registry has already is not sent again. Returns its full name with the tag.

        Raises EngineError with the registry's words, BadInput where it wants other credentials.
        """
        name = self.where.name(image.name)
        for blob in (*image.layers, image.config):
            if self._ask("HEAD", name, f"/blobs/{blob.digest}", good=(200, 404))[0] == 404:
                _, head, _ = self._ask("POST", name, "/blobs/uploads/", b"", good=(202,))
                place = urllib.parse.urljoin(self._base + f"/v2/{name}/blobs/uploads/", head.get("location", ""))
                place += ("&" if "?" in place else "?") + urllib.parse.urlencode({"digest": blob.digest})
                self._ask("PUT", name, place, blob.content, {"Content-Type": "application/octet-stream"}, good=(201,))
        self._ask("PUT", name, f"/manifests/{image.tag}", image.manifest, {"Content-Type": MANIFEST}, good=(201,))
        return f"{self.where.host}/{name}:{image.tag}"

    def digest(self, image: str, tag: str) -> str:
        """The digest that the registry has under a tag; empty if it has none."""
        path = f"/manifests/{tag}"
        status, head, _ = self._ask("HEAD", self.where.name(image), path, headers={"Accept": MANIFEST}, good=(200, 404))
        return head.get("docker-content-digest", "?") if status == 200 else ""

    def _ask(
        self,
        method: str,
        name: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        good: tuple[int, ...] = (200,),
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One request; asked for a login, once more with it."""
        url = path if "://" in path else f"{self._base}/v2/{name}{path}"
        scope = (
            f"repository:{name}:{'pull' if method == 'HEAD' and good == (200, 404) and '/manifests/' in path else 'pull,push'}"
        )
        # Uploads may go on elsewhere, such as at a store of objects: the login is for the registry only.
        away = _origin(url) != _origin(self._base)
        if away and self._base.startswith("https:") and _origin(url)[0] != "https":
            raise EngineError(
                f"registry {self.where.host}, {name}", f"the upload is to go on without TLS at {_place(url)}: refused"
            )
        status, head, content = self._send(method, url, body, headers or {}, "" if away else self._allowed.get(scope, ""))
        if status == 401 and not away and (challenge := head.get("www-authenticate", "")):
            self._allowed[scope] = self._authorize(challenge, scope, name)
            status, head, content = self._send(method, url, body, headers or {}, self._allowed[scope])
        if status in good:
            return status, head, content
        what = f"registry {self.where.host}, {name}"
        said = _said(status, content)
        if status in (401, 403) and away:
            raise EngineError(
                what, f"the upload goes on at {_place(url)}, which refuses it ({said}); the login is not sent there"
            )
        if status in (401, 403):
            hint = "give --user and --password-file" if not self._login else "these credentials may not push there"
            raise BadInput(f"{what}: it refuses ({said}): {hint}")
        raise EngineError(what, f"{method} is answered with {said}")

    def _authorize(self, challenge: str, scope: str, name: str) -> str:
        """What to say in answer to a challenge: the login itself, or a token that the registry's own server gives for it."""
        basic = "Basic " + base64.b64encode(self._login.encode()).decode() if self._login else ""
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            return basic
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if kind.lower() != "bearer" or "realm" not in asked:
            raise EngineError(f"registry {self.where.host}", f"it asks for an authentication that is not known: {challenge}")
        if basic and self._base.startswith("https:") and not asked["realm"].lower().startswith("https:"):
            raise EngineError(
                f"registry {self.where.host}", f"it asks for the login without TLS at {_place(asked['realm'])}: refused"
            )
        query = urllib.parse.urlencode({"service": asked.get("service", ""), "scope": asked.get("scope") or scope})
        status, _, content = self._send("GET", f"{asked['realm']}?{query}", None, {}, basic)
        try:
            token = json.loads(content)
            return f"Bearer {token.get('token') or token['access_token']}"
        except (ValueError, KeyError, AttributeError):
            hint = "" if self._login else ": give --user and --password-file"
            raise BadInput(f"registry {self.where.host}, {name}: no token ({_said(status, content)}){hint}") from None

    def _send(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], authorization: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        request = urllib.request.Request(url, data=body, method=method, headers=dict(headers))
        if authorization:
            request.add_unredirected_header("Authorization", authorization)
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, {k.lower(): v for k, v in e.headers.items()}, e.read()
        except (OSError, urllib.error.URLError, ValueError) as e:
            reason = str(getattr(e, "reason", e))
            plain = " (a registry without TLS is asked for by --plain-http)" if "SSL" in reason.upper() else ""
            raise EngineError(f"registry {self.where.host} can't be reached", reason + plain) from e


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port."""
    parts = urllib.parse.urlsplit(url)
    scheme = parts.scheme.lower()
    try:
        port = parts.port or (443 if scheme == "https" else 80)
    except ValueError:  # no port at all: nobody's origin
        port = -1
    return scheme, (parts.hostname or "").lower(), port


def _place(url: str) -> str:
    """The origin as text, which holds no secret of the address."""
    scheme, host, port = _origin(url)
    return f"{scheme}://{host}:{port}"


def _said(status: int, content: bytes) -> str:
    """A registry's own words, or the status."""
    try:
        errors: Any = json.loads(content)["errors"]
        words = "; ".join(f"{e.get('code', '')} {e.get('message', '')}".strip() for e in errors)
        return f"{status}: {words}" if words else str(status)
    except (ValueError, KeyError, TypeError, AttributeError):
        return str(status)


def _docker_login(host: str) -> str:
    """USER:PASSWORD as `docker login` left it for a registry, empty if it did not, or keeps it in a helper."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        auths = json.loads((folder / "config.json").read_text()).get("auths", {})
        named: dict[str, str] = next(
            (auths[n] for n in ((HUB_LOGIN,) if host in HUB else (host, f"https://{host}")) if auths.get(n)), {}
        )
        return base64.b64decode(named.get("auth", "")).decode()
    except (OSError, ValueError, AttributeError):
        return ""
