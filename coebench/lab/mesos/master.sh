#!/bin/bash
# master.sh IP: a Mesos master on IP:5050, in the foreground.
#
# Every timeout is a variable of the environment, with Mesos' own default where it is not set:
#   MESOS_AGENT_PING_TIMEOUT=15secs       how long a ping may stay unanswered …
#   MESOS_MAX_AGENT_PING_TIMEOUTS=5       … and how often in a row until the agent counts as unreachable
#   MESOS_ALLOCATION_INTERVAL=1secs       how often resources are offered when nothing else causes it
#   MESOS_OFFER_TIMEOUT (none)            how long a framework may sit on an offer
#   MESOS_AGENT_REREGISTER_TIMEOUT=10mins how long agents may take to come back after the master changed
# and what is not a timeout:
#   MESOS_REGISTRY=replicated_log         or in_memory: begins sooner, forgets its agents with its own end
#   MESOS_PORT=5050, MESOS_FOLDER=/var/lib/mesos, MESOS_THREADS=4 (libprocess' own default is at least 8)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${MESOS_FOLDER:-/var/lib/mesos}

export LIBPROCESS_IP=$1 LIBPROCESS_PORT=${MESOS_PORT:-5050}
export LIBPROCESS_NUM_WORKER_THREADS=${MESOS_THREADS:-4} LIBPROCESS_SSL_ENABLED=false
unset MESOS_PORT MESOS_FOLDER MESOS_THREADS # Mesos warns of, or takes for flags, every MESOS_* it sees

export MESOS_AGENT_PING_TIMEOUT=${MESOS_AGENT_PING_TIMEOUT:-15secs}
export MESOS_MAX_AGENT_PING_TIMEOUTS=${MESOS_MAX_AGENT_PING_TIMEOUTS:-5}
export MESOS_ALLOCATION_INTERVAL=${MESOS_ALLOCATION_INTERVAL:-1secs}
export MESOS_AGENT_REREGISTER_TIMEOUT=${MESOS_AGENT_REREGISTER_TIMEOUT:-10mins}
export MESOS_REGISTRY=${MESOS_REGISTRY:-replicated_log}
export MESOS_HOSTNAME=$1 MESOS_LAUNCHER_DIR=$here/libexec
export COE_WORK_DIR=$folder/master
# of the agents that local::launch() could start; there are none, but it reads the flags
export MESOS_LAUNCHER=posix MESOS_ISOLATION=posix/cpu,posix/mem MESOS_SYSTEMD_ENABLE_SUPPORT=false

mkdir -p "$COE_WORK_DIR"
exec "$here/lib/coemesos" master
