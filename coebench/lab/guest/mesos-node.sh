# Payload of a node: NAME ADDRESS MASTER; timeouts, resources and the image store's place are in /etc/mesos/env
NAME=$1 IP=$2 MASTER=$3
if [ -d /opt/mesos-store ]; then cp -a /opt/mesos-store /var/lib/mesos/store; fi   # images unpacked beforehand
agent() { set -a; . /etc/mesos/env; set +a; exec /opt/mesos/agent.sh "$IP" "$MASTER"; }   # read again whenever it begins
start mesos-agent agent
wait
