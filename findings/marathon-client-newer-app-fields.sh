#!/bin/bash
# The Marathon Python client 0.13.0 can't list any app if one app has a field that is newer than the client.
#
# Apps of Marathon 1.5 and later may have tty, executorResources or resourceLimits (docs/docs/rest-api of Marathon). The client hands
# every field of the answer to a constructor, so a single such app, somebody else's for example, makes list_apps() end with a
# TypeError, and none of the others is returned. A TypeError is no MarathonError, so programs that catch the client's own errors end.
#
# Seen on 2026-12-01 with marathon 0.13.0, Python 3.11: "MarathonApp.__init__() got an unexpected keyword argument".
# Needs Python 3 with venv, and PyPI. The server is on the loopback.
set -euo pipefail
WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/pip" install --quiet --disable-pip-version-check marathon==0.13.0
cd "$WORK"
"$WORK/venv/bin/python" - <<'P'
import http.server, json, threading
from importlib.metadata import version
from marathon import MarathonClient
from marathon.exceptions import MarathonError

apps = [{"id": "/plain", "instances": 1}]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"apps": apps}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
marathon = MarathonClient(f"http://127.0.0.1:{server.server_port}")
assert [a.id for a in marathon.list_apps()] == ["/plain"]
failed = []
for field, value in (("tty", True), ("executorResources", {"cpus": 0.1, "mem": 32, "disk": 10}), ("resourceLimits", {"cpus": "unlimited"})):
    apps[1:] = [{"id": "/newer", "instances": 1, field: value}]
    try:
        marathon.list_apps()
    except MarathonError:
        pass
    except TypeError as e:
        failed.append(f"{field}: {e}")
print(f"marathon {version('marathon')}: list_apps() of two apps ended with a TypeError for {len(failed)} of 3 fields")
for line in failed:
    print(f"  {line}")
assert len(failed) == 3
P
