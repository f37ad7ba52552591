# Payload of a node: NAME ADDRESS MASTER; timeouts, resources and the image store's place are in /etc/mesos/env
NAME=$1 IP=$2 MASTER=$3
set -a; . /etc/mesos/env; set +a
if [ -d /opt/mesos-store ]; then cp -a /opt/mesos-store /var/lib/mesos/store; fi   # images unpacked beforehand
start mesos-agent /opt/mesos/agent.sh "$IP" "$MASTER"
wait
