"""As much of Nova and Neutron as Magnum's API asks about: flavors, keypairs, external networks.

The lab has neither. What others have written for whole clouds (tempest's tests, clients of /v1/bays, whose templates must name a
keypair) asks for them all the same: for the time of a test they stand in the lab's catalogue.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from coebench.lab.magnum import plane

FLAVOR, NETWORK, KEYPAIR = "m1.lab", "public", "lab-keypair"


class _Handler(http.server.BaseHTTPRequestHandler):
    keypairs: dict[tuple[str, str], dict[str, Any]]  # by user and name
    whose: Callable[[str], str]  # token → user

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        name = path.rpartition("/")[2]
        if path.endswith(("/flavors", "/flavors/detail")):
            flavor = {"id": "1", "name": FLAVOR, "ram": 3072, "vcpus": 1, "disk": 10, "links": []}
            self._say(200, {"flavors": [flavor]})
        elif path.endswith("/networks"):
            self._say(200, {"networks": [{"id": "9f1c", "name": NETWORK, "router:external": True}]})
        elif "/os-keypairs/" in path and (found := self.keypairs.get(self._key(name)) or self.keypairs.get(("", name))):
            self._say(200, {"keypair": found})
        elif path.endswith(("/compute", "/compute/v2.1")):
            version = {"id": "v2.1", "status": "CURRENT", "version": "2.1", "min_version": "2.1", "links": []}
            self._say(200, {"version": version, "versions": [version]})
        else:
            self._say(404, {"itemNotFound": {"code": 404, "message": f"no {path}"}})

    def do_POST(self) -> None:
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["keypair"]["name"]
        keypair = {"name": name, "fingerprint": "00:00", "public_key": "ssh-rsa none", "private_key": "none", "user_id": "none"}
        self.keypairs[self._key(name)] = keypair
        self._say(200, {"keypair": keypair})

    def do_DELETE(self) -> None:
        there = self.keypairs.pop(self._key(self.path.rpartition("/")[2]), None)
        self._say(202 if there else 404, None if there else {"itemNotFound": {"code": 404, "message": "no such keypair"}})

    def _key(self, name: str) -> tuple[str, str]:
        """Of a user who has been deleted, in whose name tempest tidies up, Keystone tells nothing: whoever has such a name."""
        try:
            return type(self).whose(self.headers["X-Auth-Token"]), name
        except urllib.error.HTTPError:
            return next((k for k in self.keypairs if k[1] == name and k[0]), ("", name))

    def _say(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None: ...


@contextlib.contextmanager
def neighbours(magnum: plane.Plane) -> Iterator[None]:
    """While entered, the lab's Keystone names a compute and a network service, which answer as above."""
    admin, keystone = plane._Rest(magnum, "admin"), magnum.ports.keystone
    users: dict[str, str] = {}

    def whose(token: str) -> str:
        if token not in users:  # remembered: tempest still uses the tokens of users that it has deleted
            request = urllib.request.Request(f"http://127.0.0.1:{keystone}/v3/auth/tokens")
            request.headers |= {**admin._headers, "X-Subject-Token": token}
            with urllib.request.urlopen(request, timeout=30) as answer:
                users[token] = json.load(answer)["token"]["user"]["id"]
        return users[token]

    keypair = {"name": KEYPAIR, "fingerprint": "00:00", "public_key": "ssh-rsa none", "user_id": "none"}
    handler = type("Handler", (_Handler,), {"keypairs": {("", KEYPAIR): keypair}, "whose": staticmethod(whose)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    services = []
    try:
        for name, kind, path in (("nova", "compute", "/compute/v2.1"), ("neutron", "network", "")):
            made = admin.ask("POST", keystone, "/v3/services", {"service": {"name": name, "type": kind}})["service"]["id"]
            services.append(made)
            url = f"http://127.0.0.1:{server.server_address[1]}{path}"
            for interface in ("public", "internal", "admin"):
                endpoint = {"service_id": made, "interface": interface, "region_id": "RegionOne", "url": url}
                admin.ask("POST", keystone, "/v3/endpoints", {"endpoint": endpoint})
        yield
    finally:
        for made in services:  # their endpoints go with them
            admin.ask("DELETE", keystone, f"/v3/services/{made}")
        server.shutdown()
        server.server_close()
