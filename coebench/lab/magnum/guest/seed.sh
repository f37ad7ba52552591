# Makes the databases: tables of all three services, and Keystone's users, projects, roles and endpoints. In a tree without
# network, with /build to work in: /build/etc, /build/site (read-only); leaves /build/mysql.
set -e
export PYTHONPATH=/build/site:/build/guest PYTHONDONTWRITEBYTECODE=1 OS_KEYSTONE_CONFIG_DIR=/build/etc/keystone
SOCKET=/build/my.sock LOG=/build/seed.log
rm -rf /build/mysql
mariadb-install-db --no-defaults --user=root --datadir=/build/mysql --auth-root-authentication-method=normal --skip-test-db --force
mariadbd --no-defaults --user=root --datadir=/build/mysql --socket=$SOCKET --skip-networking --pid-file=/build/my.pid \
  --innodb-flush-log-at-trx-commit=0 --innodb-log-file-size=32M --performance-schema=OFF &
until mariadb --no-defaults -uroot -S$SOCKET -e 'select 1' >/dev/null 2>&1; do sleep 0.1; kill -0 $!; done
mariadb --no-defaults -uroot -S$SOCKET -e 'create database keystone; create database glance; create database magnum'
echo "step making the tables of Keystone, Glance and Magnum"
main() { local module=$1; shift; python3 -c "import sys; sys.argv[0] = '$module'; from $module import main; main()" "$@"; }
main keystone.cmd.manage --config-file /build/etc/keystone/keystone.conf db_sync
main keystone.cmd.manage --config-file /build/etc/keystone/keystone.conf fernet_setup --keystone-user root --keystone-group root
main keystone.cmd.manage --config-file /build/etc/keystone/keystone.conf credential_setup --keystone-user root --keystone-group root
main glance.cmd.manage --config-file /build/etc/glance/glance-api.conf db_sync
main magnum.cmd.db_manage --config-file /build/etc/magnum/magnum.conf upgrade
echo "step making users and projects"
python3 /build/guest/identity.py /build/passwords.json
mariadb-admin --no-defaults -uroot -S$SOCKET shutdown
wait
