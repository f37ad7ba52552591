"""Fill Keystone: users, projects, roles, services and endpoints, through its own application but without a socket.

    identity.py PASSWORDS.json

Ports in the endpoints are 1 (Keystone), 2 (Glance) and 3 (Magnum): whoever starts the services replaces them.
"""

import json
import os
import subprocess
import sys

PORTS = {"keystone": 1, "glance": 2, "magnum": 3}


def main(file):
    with open(file) as f:
        passwords = json.load(f)
    url = f"http://127.0.0.1:{PORTS['keystone']}/v3"
    conf = os.path.join(os.environ["OS_KEYSTONE_CONFIG_DIR"], "keystone.conf")
    words = ["--config-file", conf, "bootstrap", "--bootstrap-password", passwords["admin"], "--bootstrap-region-id", "RegionOne"]
    words += ["--bootstrap-public-url", url, "--bootstrap-internal-url", url, "--bootstrap-admin-url", url]
    program = "import sys; sys.argv[0] = 'keystone-manage'; from keystone.cmd.manage import main; main()"
    subprocess.run([sys.executable, "-c", program, *words], check=True)

    import webob
    import wsgi

    app = wsgi.keystone
    token = None

    def ask(method, path, body=None):
        nonlocal token
        headers = {"X-Auth-Token": token} if token else {}
        data = json.dumps(body).encode() if body is not None else b""
        request = webob.Request.blank("/v3" + path, method=method, body=data, headers=headers, content_type="application/json")
        answer = request.get_response(app)
        if answer.status_int >= 300:
            sys.exit(f"{method} {path}: {answer.status} {answer.text}")
        if token is None:
            token = answer.headers["X-Subject-Token"]
        return json.loads(answer.body) if answer.body else {}

    domain = {"id": "default"}
    user = {"name": "admin", "domain": domain, "password": passwords["admin"]}
    identity = {"methods": ["password"], "password": {"user": user}}
    ask("POST", "/auth/tokens", {"auth": {"identity": identity, "scope": {"project": {"name": "admin", "domain": domain}}}})
    roles = {r["name"]: r["id"] for r in ask("GET", "/roles")["roles"]}
    projects = {
        name: ask("POST", "/projects", {"project": {"name": name, "domain_id": "default"}})["project"]["id"]
        for name in ("service", "coebench")
    }

    def add(name, project, wanted):
        made = ask("POST", "/users", {"user": {"name": name, "password": passwords[name], "domain_id": "default"}})["user"]["id"]
        for role in wanted:
            if role in roles:
                ask("PUT", f"/projects/{projects[project]}/users/{made}/roles/{roles[role]}")

    add("glance", "service", ("admin", "service"))
    add("magnum", "service", ("admin", "service"))
    add("coebench", "coebench", ("member", "reader"))
    trust = ask("POST", "/domains", {"domain": {"name": "magnum"}})["domain"]["id"]
    body = {"user": {"name": "magnum_domain_admin", "password": passwords["trust"], "domain_id": trust}}
    made = ask("POST", "/users", body)["user"]["id"]
    ask("PUT", f"/domains/{trust}/users/{made}/roles/{roles['admin']}")
    for name, kind, rest in (("glance", "image", ""), ("magnum", "container-infra", "v1")):
        service = ask("POST", "/services", {"service": {"name": name, "type": kind}})["service"]["id"]
        for interface in ("public", "internal", "admin"):
            where = f"http://127.0.0.1:{PORTS[name]}/{rest}"
            body = {"service_id": service, "interface": interface, "region_id": "RegionOne", "url": where}
            ask("POST", "/endpoints", {"endpoint": body})


if __name__ == "__main__":
    main(sys.argv[1])
