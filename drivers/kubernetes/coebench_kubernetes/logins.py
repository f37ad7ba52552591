"""Who a kubeconfig logs in as: tokens, exec plug-ins and impersonation, as kubectl takes them. No message holds a token."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kubernetes.client import Configuration
from kubernetes.config import ConfigException
from kubernetes.config.exec_provider import ExecProvider
from kubernetes.config.kube_config import FileOrData, KubeConfigLoader
from urllib3 import HTTPHeaderDict

from coebench.contract import BadInput

HEADER = "!#$%&'*+-.^_`|~"  # what a header's name may hold beside letters and digits
_BEARER = "Bearer "


class Loader(KubeConfigLoader):  # type: ignore[misc]
    """The client's own logs the error of an exec plug-in and goes on as anonymous; this one raises it."""

    def _load_from_exec_plugin(self) -> bool | None:
        if "exec" not in self._user:
            return None
        command = self._user["exec"].safe_get("command")
        try:
            status = ExecProvider(self._user["exec"], None, self._cluster).run()
        except FileNotFoundError:
            hint = self._user["exec"].safe_get("installHint")
            raise ConfigException(f"the plug-in {command} is not there{f': {hint}' if hint else ''}") from None
        except (ConfigException, OSError) as e:
            raise ConfigException(f"the plug-in {command} gave no credential: {e}") from None
        if not isinstance(status, Mapping) or not (status.get("token") or status.get("clientCertificateData")):
            raise ConfigException(f"the plug-in {command} gave no credential: neither token nor clientCertificateData")
        if status.get("token"):
            self.token = _BEARER + clean(status["token"], f"the plug-in {command}")
        if status.get("clientCertificateData"):
            if not status.get("clientKeyData"):
                raise ConfigException(f"the plug-in {command} gave a certificate without its key")
            for name, given in (("cert_file", "clientCertificateData"), ("key_file", "clientKeyData")):
                pem = FileOrData(status, None, given, base64_file_content=False, temp_file_path=self._temp_file_path)
                setattr(self, name, pem.as_file())
        if status.get("expirationTimestamp"):
            from kubernetes.config.dateutil import parse_rfc3339

            self.expiry = parse_rfc3339(status["expirationTimestamp"])
        return True


def load(content: Mapping[str, Any], configuration: Configuration, folder: str) -> dict[str, str | tuple[str, ...]]:
    """Set `configuration` from a kubeconfig's current context. The answer: the headers of impersonation, `headers` sends them.
    Raises BadInput, in one line."""
    user = _part(content, "user")
    cluster = _part(content, "cluster")
    if path := user.get("tokenFile"):
        try:
            user["token"] = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as e:
            raise BadInput(f"the kubeconfig's tokenFile {path} can't be read: {getattr(e, 'strerror', None) or e}") from None
    if user.get("token"):
        user["token"] = clean(user["token"], f"the token file {path}" if path else "the kubeconfig")
    if cluster.get("insecure-skip-tls-verify") and (
        cluster.get("certificate-authority") or cluster.get("certificate-authority-data")
    ):
        raise BadInput("the kubeconfig can't be used: its cluster has insecure-skip-tls-verify and a certificate authority")
    impersonated = impersonation(user)
    if len(impersonated.get("Impersonate-Group", ())) > 1 and cluster.get("proxy-url") and _plain(cluster):
        raise BadInput(
            "the kubeconfig can't be used: several groups of as-groups can't be sent to a plain http server by a proxy"
        )
    proxy = str(cluster.get("proxy-url") or "")
    if proxy and not proxy.startswith(("http://", "https://", "socks5://", "socks5h://")):
        raise BadInput("the kubeconfig's proxy-url must begin with http://, https:// or socks5://")
    if proxy.startswith("socks"):
        try:
            import socks  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
        except ModuleNotFoundError:
            raise BadInput(
                "the kubeconfig's proxy-url is a SOCKS proxy, which needs Python's PySocks: pip install PySocks"
            ) from None
    provider = user.get("auth-provider")
    try:
        Loader(config_dict=content, config_base_path=None, temp_file_path=folder).load_and_set(configuration)
    except BadInput:
        raise
    except Exception as e:  # the client's own, of any kind: a message of theirs may hold what was in the file
        if provider:
            raise _refused(provider) from None
        if isinstance(e, binascii.Error):
            raise BadInput("the kubeconfig can't be used: a field that ends with -data is no base64 text") from None
        known = isinstance(e, (ConfigException, OSError, KeyError))
        raise BadInput(f"the kubeconfig can't be used: {' '.join(str(e).split()) if known else type(e).__name__}") from None
    if provider and not configuration.api_key.get("BearerToken"):
        raise _refused(provider)
    return impersonated


def clean(token: Any, where: str) -> str:
    """A token without the white space around it. Raises BadInput, which does not show it, if no header can hold it."""
    text = str(token).strip()
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise BadInput(f"{where} has a token that is empty or holds white space or other characters that no token has")
    return text


def impersonation(user: Mapping[str, Any]) -> dict[str, str | tuple[str, ...]]:
    """The headers that say whom the user acts as. Raises BadInput for what no header can hold."""
    name, uid = str(user.get("as") or ""), str(user.get("as-uid") or "")
    groups, extra = user.get("as-groups") or [], user.get("as-user-extra") or {}
    if not isinstance(groups, list) or not isinstance(extra, Mapping):
        raise BadInput("the kubeconfig can't be used: as-groups is a list, as-user-extra a mapping to lists")
    if not name:
        if uid or groups or extra:
            raise BadInput("the kubeconfig can't be used: as-uid, as-groups and as-user-extra need a user that `as` names")
        return {}
    found: dict[str, str | tuple[str, ...]] = {"Impersonate-User": _value(name, "as")}
    if uid:
        found["Impersonate-Uid"] = _value(uid, "as-uid")
    if groups:
        found["Impersonate-Group"] = tuple(_value(g, "as-groups") for g in groups)
    for key, values in extra.items():
        all_of_it = values if isinstance(values, list) else [values]
        found[f"Impersonate-Extra-{quote(str(key), safe=HEADER.replace('%', ''))}"] = tuple(
            _value(v, "as-user-extra") for v in all_of_it
        )
    return found


def impersonating(rest: Any, impersonated: Mapping[str, str | tuple[str, ...]]) -> None:
    """Send these headers with every request of a client; one of several values is sent once for each."""
    if not impersonated:
        return
    ask = rest.request

    def request(method: str, url: str, headers: Any = None, **kw: Any) -> Any:
        sent = HTTPHeaderDict(headers or {})
        for name, value in impersonated.items():
            for one in (value,) if isinstance(value, str) else value:
                sent.add(name, one)
        return ask(method, url, headers=sent, **kw)

    rest.request = request


def _value(given: Any, field: str) -> str:
    """UTF-8, as kubectl sends it: Python's client would write Latin-1."""
    text = str(given)
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise BadInput(f"the kubeconfig can't be used: {field} holds a control character")
    return text.encode().decode("latin-1")


def _part(content: Any, kind: str) -> dict[str, Any]:
    """The user or cluster of the current context; empty if it has none."""
    if not isinstance(content, dict):
        raise BadInput("the kubeconfig can't be used: it is no mapping")
    for context in content.get("contexts") or []:
        if context.get("name") == content.get("current-context"):
            wanted = (context.get("context") or {}).get(kind)
            for one in content.get(f"{kind}s") or []:
                if wanted and one.get("name") == wanted:
                    found: dict[str, Any] = one.get(kind) or {}
                    return found
    return {}


def _plain(cluster: Mapping[str, Any]) -> bool:
    return str(cluster.get("server", "")).startswith("http:")


def _refused(provider: Any) -> BadInput:
    name = provider.get("name", "?") if isinstance(provider, Mapping) else "?"
    return BadInput(f"the kubeconfig's auth-provider '{name}' gave no token: use an exec plug-in, a token or a certificate")
