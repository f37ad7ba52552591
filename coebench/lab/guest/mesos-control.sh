# Payload of the control host: ADDRESS; the timeouts are in the environment file /etc/mesos/env
IP=$1
set -a; . /etc/mesos/env; set +a
start mesos-master /opt/mesos/master.sh "$IP"
until_true curl -sf "http://$IP:5050/health"
mkdir -p /var/lib/marathon
start marathon python3 /opt/mesos/marathon --master "$IP:5050" --listen "$IP:8080" --state /var/lib/marathon
wait
