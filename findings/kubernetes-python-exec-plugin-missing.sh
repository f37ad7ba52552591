#!/bin/bash
# The Kubernetes Python client 37.0.2 goes on as nobody when a kubeconfig's exec plug-in is not installed.
#
# Users of EKS, GKE and AKS get their token from a program that the kubeconfig names. If it is missing, kubectl ends with its name
# and its install hint. The Python client logs the error, raises nothing, and sends every request without credentials. What the user
# sees is the server's 401 or 403 about "system:anonymous", long after the cause; on a server that lets anonymous users read,
# nothing at all.
#
# Seen on 2026-12-01 with kubernetes 37.0.2, Python 3.11: load_kube_config_from_dict returns, no Authorization header is sent.
# Needs Python 3 with venv, and PyPI. The server is on the loopback.
set -euo pipefail
WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/pip" install --quiet --disable-pip-version-check kubernetes==37.0.2
cd "$WORK"
"$WORK/venv/bin/python" - <<'P'
import http.server, json, logging, threading
from importlib.metadata import version
from kubernetes import client, config

logging.disable(logging.CRITICAL)
seen = []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append({name.lower() for name in self.headers})
        body = json.dumps({"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-login-helper", "interactiveMode": "Never",
          "installHint": "install the login helper"}
settings = client.Configuration()
config.load_kube_config_from_dict({
    "apiVersion": "v1", "kind": "Config", "current-context": "c",
    "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
    "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    "users": [{"name": "u", "user": {"exec": plugin}}],
}, client_configuration=settings)
client.CoreV1Api(client.ApiClient(settings)).list_node()
print(f"kubernetes {version('kubernetes')}: loading raised nothing; requests: {len(seen)}, with credentials: "
      f"{sum('authorization' in names for names in seen)}")
assert len(seen) == 1 and "authorization" not in seen[0]
P
