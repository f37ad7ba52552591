# All services of the lab's Magnum. Arguments: the ports of Keystone, Glance, Magnum, RabbitMQ, its distribution, and epmd.
KEYSTONE=$1 GLANCE=$2 MAGNUM=$3 AMQP=$4 DIST=$5 EPMD=$6
export PYTHONPATH=/opt/magnum/site:/opt/coebench/magnum/guest PYTHONDONTWRITEBYTECODE=1
export OS_KEYSTONE_CONFIG_DIR=/etc/keystone OS_GLANCE_CONFIG_DIR=/etc/glance COEBENCH_SPOOL=/var/lib/spool
SOCKET=/run/mysqld/mysqld.sock

start mariadb mariadbd --no-defaults --user=root --datadir=/var/lib/magnum/mysql --socket=$SOCKET --skip-networking \
  --pid-file=/run/mysqld/pid --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=64M --innodb-log-file-size=32M \
  --performance-schema=OFF --max-connections=400

cp /opt/magnum/site/etc/glance/glance-api-paste.ini /etc/glance/  # looked for there, whatever its configuration says

# The broker's own scripts want other users and a log of their own; its Erlang program is all that is needed here.
rabbitmq() {
  export RABBITMQ_NODENAME=coebench@localhost RABBITMQ_MNESIA_BASE=/var/lib/magnum/rabbit RABBITMQ_LOG_BASE=/var/log \
    RABBITMQ_CONFIG_FILE=/etc/magnum/rabbit.conf RABBITMQ_ENABLED_PLUGINS_FILE=/etc/magnum/rabbit.plugins \
    RABBITMQ_DIST_PORT=$DIST ERL_EPMD_PORT=$EPMD ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_CONF_ENV_FILE=/dev/null \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none"
  exec /usr/lib/rabbitmq/bin/rabbitmq-server
}
start epmd epmd -address 127.0.0.1 -port "$EPMD"
start rabbitmq rabbitmq

listens() { : < "/dev/tcp/127.0.0.1/$1"; }
database() { mariadb --no-defaults -uroot -S$SOCKET -e "${1:-select 1}" keystone; }
web() { python3 -m gunicorn --worker-class gthread --workers 1 --threads 8 --bind "127.0.0.1:$2" --timeout 120 "wsgi:$1"; }

until_true database
# The tables were made without knowing the ports: they are told here, once.
database "update endpoint set url = replace(replace(replace(url, ':1/', ':$KEYSTONE/'), ':2/', ':$GLANCE/'), ':3/', ':$MAGNUM/')"
fact mariadb
start keystone web keystone "$KEYSTONE"
start glance web glance "$GLANCE"
until_true listens "$AMQP"
fact rabbitmq
start magnum-conductor python3 -c 'from magnum.cmd.conductor import main; main()' --config-file /etc/magnum/magnum.conf
start magnum-api web magnum "$MAGNUM"
until_true listens "$KEYSTONE"; fact keystone
until_true listens "$GLANCE"; fact glance
until_true listens "$MAGNUM"; fact magnum-api
wait
