#!/bin/bash
# The Kubernetes Python client 37.0.2 drops "as" and "as-groups" of a kubeconfig: everything is done as the real user.
#
# kubectl and client-go send Impersonate-User and Impersonate-Group for such a user, so that an administrator can try what a
# restricted account may do. The Python client loads the same file without a word and sends the token alone. A program that was
# given the restricted identity then acts, and measures, with the full rights of the person who impersonates.
#
# Seen on 2026-12-01 with kubernetes 37.0.2, Python 3.11: the request has an Authorization header and no Impersonate-User.
# Needs Python 3 with venv, and PyPI. The server is on the loopback.
set -euo pipefail
WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/pip" install --quiet --disable-pip-version-check kubernetes==37.0.2
cd "$WORK"
"$WORK/venv/bin/python" - <<'P'
import http.server, json, threading
from importlib.metadata import version
from kubernetes import client, config

seen = {}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        seen.update(self.headers)
        body = json.dumps({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
                           "goVersion": "", "compiler": "", "platform": ""}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
user = {"token": "abc", "as": "restricted-bot", "as-groups": ["bench"]}
settings = client.Configuration()
config.load_kube_config_from_dict({
    "apiVersion": "v1", "kind": "Config", "current-context": "c",
    "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
    "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    "users": [{"name": "u", "user": user}],
}, client_configuration=settings)
client.VersionApi(client.ApiClient(settings)).get_code()
names = {name.lower() for name in seen}
print(f"kubernetes {version('kubernetes')}: authorization sent: {'authorization' in names}; "
      f"impersonate-user sent: {'impersonate-user' in names}")
assert "authorization" in names and not any(n.startswith("impersonate") for n in names)
P
