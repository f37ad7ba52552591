"""The same haproxy in front of a service, whatever the COE: a service of the bay's own, of one instance.

Its backends are the instances that the engine lists when it is put there: it is for measurements of a service that stays as it
is. Kept connections on both sides, requests spread by turns, no health checks of its own, one thread.
"""

from __future__ import annotations

import msgspec

from ..contract import EngineError, Reach, Routing, Trial
from .following import Following, until_answering

DEPLOY = 60.0  # seconds until it is given up
PORT = 8088
CONFIG = """\
global
  maxconn 4000
  no strict-limits
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend all
  bind ":${COEBENCH_PORT}"
  default_backend instances
backend instances
  balance roundrobin
"""
START = 'printf "%s" "$CONFIG" > /tmp/haproxy.cfg && exec haproxy -db -f /tmp/haproxy.cfg'


def name(service: str) -> str:
    """The proxy's own service."""
    return f"{service}-proxy"


def in_front(trial: Trial, service: str) -> Reach:
    """Deploy it, wait until an instance answers through it, and return its address. Raises PhaseTimeout, EngineError."""
    backends = trial.driver.reach(service, Routing.ENDPOINTS).targets
    if not backends:
        raise EngineError("putting a proxy in front", f"{service} has no instance that could be reached")
    lines = "".join(f"  server s{n} {address}:{port}\n" for n, (address, port) in enumerate(backends, 1))
    spec = trial.tools.service(name(service), 1, trial.tools.versions[0])
    spec = msgspec.structs.replace(
        spec, command=("/bin/sh", "-c", START), env={"CONFIG": CONFIG + lines}, port=PORT, publish=False, cpu=0.1
    )
    with trial.phase("proxy", DEPLOY) as deadline, Following(trial, spec.name) as following:
        trial.driver.deploy(spec)
        # An instance's own name comes back through it, so the engine's word on the proxy is not waited for.
        until_answering(following, 1, deadline, claims=False)
    found = trial.driver.reach(spec.name, Routing.ENDPOINTS)
    return Reach(routing=Routing.PROXY, targets=found.targets, how=f"haproxy in front of {len(backends)} instances, one thread")
