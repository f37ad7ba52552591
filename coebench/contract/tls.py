"""How a server's certificate is checked: as the engines' own tools do it, on every Python.

From Python 3.13 on certificates must also keep to the form of RFC 5280 (`ssl.VERIFY_X509_STRICT`): an authority without key
identifiers is refused. Magnum's authorities have none, nor have many that were made by hand, and kubectl, docker and curl take
them. The chain, the dates and the name are checked as ever.
"""

from __future__ import annotations

import ssl
from typing import Any

from urllib3 import HTTPSConnectionPool
from urllib3.connection import HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs


class _Connection(HTTPSConnection):
    def connect(self) -> None:
        if self.ssl_context is None:  # a new one for each connection, as urllib3 makes: loading into a shared one is not safe
            context = create_urllib3_context(cert_reqs=resolve_cert_reqs(self.cert_reqs))
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if not (self.ca_certs or self.ca_cert_dir or self.ca_cert_data):
                context.load_default_certs()
            self.ssl_context = context
        super().connect()


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection


def relax(manager: Any) -> None:
    """Let a urllib3 PoolManager (of `requests`: each adapter's `poolmanager`) take certificates that keep to RFC 5280 loosely."""
    manager.pool_classes_by_scheme = {**manager.pool_classes_by_scheme, "https": _Pool}


def relax_session(session: Any) -> None:
    """The same for all adapters of a `requests.Session`."""
    for adapter in session.adapters.values():
        if hasattr(adapter, "poolmanager"):
            relax(adapter.poolmanager)
