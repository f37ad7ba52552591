"""docker-py reads certificates from files only."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import docker
from docker import auth
from docker.tls import TLSConfig

from coebench.contract import Access, private_folder
from coebench.contract.tls import relax_session


class Client(docker.APIClient):
    """Trusts the access's own certificates, also where REQUESTS_CA_BUNDLE is set: requests would let that win. It knows none of
    the logins that `docker login` left, since nothing here pulls."""

    @property
    def _auth_configs(self) -> auth.AuthConfig:
        return auth.AuthConfig({})

    @_auth_configs.setter
    def _auth_configs(self, value: auth.AuthConfig) -> None:
        """What was found in the user's files is left there."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        own = self.verify if verify is None else verify
        return super().merge_environment_settings(url, proxies, stream, own, cert)


class Certificates(TLSConfig):
    def configure_client(self, client: Any) -> None:
        super().configure_client(client)
        relax_session(client)


def tls_files(access: Access) -> tuple[Path | None, TLSConfig | None]:
    """The access's certificates in a folder that only this user may read, and the configuration that names them."""
    if not (access.ca or access.cert):
        return None, None
    folder = Path(tempfile.mkdtemp(prefix="tls-", dir=private_folder()))
    paths = {}
    for name, text in (("ca", access.ca), ("cert", access.cert), ("key", access.key)):
        if text:
            path = folder / f"{name}.pem"
            path.touch(mode=0o600)
            path.write_text(text)
            paths[name] = str(path)
    pair = (paths["cert"], paths["key"]) if "cert" in paths and "key" in paths else None
    return folder, Certificates(client_cert=pair, ca_cert=paths.get("ca"), verify=True)  # without a CA: the system's authorities
