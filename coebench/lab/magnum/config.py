"""The configuration files of the lab's Magnum, as their paths and texts."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .releases import Release


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """All on 127.0.0.1."""

    keystone: int
    glance: int
    magnum: int
    amqp: int
    dist: int
    epmd: int


# What the seed is made with: Keystone's tables hold these, and the services replace them when they start.
UNKNOWN = Ports(keystone=1, glance=2, magnum=3, amqp=4, dist=5, epmd=6)
SITE = "/opt/magnum/site"


def _database(name: str, socket: str) -> str:
    return f"mysql+pymysql://root@localhost/{name}?charset=utf8mb3&unix_socket={socket}"


def files(
    release: Release, ports: Ports, passwords: Mapping[str, str], socket: str = "/run/mysqld/mysqld.sock", etc: str = "/etc"
) -> dict[str, str]:
    """Path below /etc → text."""
    volumes = "[cinder]\ndefault_boot_volume_size = 1\n" if release.nova else ""
    keystone = f"http://127.0.0.1:{ports.keystone}/v3"

    def login(user: str) -> str:
        return (
            f"auth_type = password\nauth_url = {keystone}\nusername = {user}\npassword = {passwords[user]}\n"
            "project_name = service\nuser_domain_name = Default\nproject_domain_name = Default\nregion_name = RegionOne\n"
        )

    return {
        "keystone/keystone.conf": f"""\
[DEFAULT]
use_stderr = true
[database]
connection = {_database("keystone", socket)}
[token]
provider = fernet
[fernet_tokens]
key_repository = {etc}/keystone/fernet
[fernet_receipts]
key_repository = {etc}/keystone/fernet
[credential]
key_repository = {etc}/keystone/credential
[identity]
password_hash_rounds = 4
[oslo_policy]
policy_file = {etc}/keystone/policy.yaml
""",
        "glance/glance-api.conf": f"""\
[DEFAULT]
use_stderr = true
bind_host = 127.0.0.1
[database]
connection = {_database("glance", socket)}
[glance_store]
stores = file
default_store = file
filesystem_store_datadir = /var/lib/magnum/images
[paste_deploy]
flavor = keystone
config_file = {etc}/glance/glance-api-paste.ini
[keystone_authtoken]
{login("glance")}www_authenticate_uri = {keystone}
[oslo_concurrency]
lock_path = /run/lock
""",
        "magnum/magnum.conf": f"""\
[DEFAULT]
transport_url = rabbit://guest:guest@127.0.0.1:{ports.amqp}/
use_stderr = true
host = coebench
state_path = /var/lib/magnum
[api]
host = 127.0.0.1
port = {ports.magnum}
api_paste_config = {SITE}/etc/magnum/api-paste.ini
[conductor]
workers = 1
[database]
connection = {_database("magnum", socket)}
[certificates]
cert_manager_type = x509keypair
[cluster_template]
kubernetes_allowed_network_drivers = all
[quotas]
max_clusters_per_project = 2000
[keystone_auth]
{login("magnum")}
[keystone_authtoken]
{login("magnum")}www_authenticate_uri = {keystone}
[trust]
trustee_domain_name = magnum
trustee_domain_admin_name = magnum_domain_admin
trustee_domain_admin_password = {passwords["trust"]}
trustee_keystone_interface = public
[oslo_concurrency]
lock_path = /run/lock
[oslo_policy]
policy_file = {etc}/magnum/policy.yaml
{volumes}""",
        "magnum/rabbit.conf": f"""\
listeners.tcp.1 = 127.0.0.1:{ports.amqp}
loopback_users.guest = true
num_acceptors.tcp = 2
log.console = true
log.file = false
disk_free_limit.absolute = 50MB
""",
        "magnum/rabbit.plugins": "[].\n",
    }
