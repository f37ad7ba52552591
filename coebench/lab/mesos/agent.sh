#!/bin/bash
# agent.sh IP MASTER_IP: a Mesos agent on IP:5051, in the foreground.
#
# Every timeout is a variable of the environment, with Mesos' own default where it is not set:
#   MESOS_REGISTRATION_BACKOFF_FACTOR=1secs      the agent first registers after a random part of this
#   MESOS_EXECUTOR_REGISTRATION_TIMEOUT=1mins    how long an executor may take to report
#   MESOS_EXECUTOR_REREGISTRATION_TIMEOUT=2secs  the same after the agent began again
#   MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=5secs
#   MESOS_RECOVERY_TIMEOUT=15mins                how long an executor waits for an agent that is gone
#   MESOS_GC_DELAY=1weeks
# (Pings are the master's: see master.sh.)  What is not a timeout:
#   MESOS_RESOURCES     e.g. 'cpus:2;mem:2048;disk:4096;ports:[31000-31999]'; Mesos asks the machine if not set
#   MESOS_ATTRIBUTES    e.g. 'rack:a;zone:1'
#   MESOS_LAUNCHER      linux: namespaces, images, and what can be limited.  posix: none of that.  The default is linux
#                       where cgroup v1's freezer is mounted (at /sys/fs/cgroup/freezer; beside cgroup v2 that works too)
#   MESOS_ISOLATION     the isolators; by default those below, with a limit for each of cgroup v1's cpu, memory and pids
#                       that is mounted.  Mesos 1.11 does not know cgroup v2: there, nothing is limited
#   MESOS_CGROUPS_ENABLE_CFS=false   true makes `cpus` a hard limit; as weights, by default, idle CPU may be used
#   MESOS_CGROUPS_ROOT=mesos   needs another value for each agent of one cgroup namespace
#   MESOS_DOCKER_REGISTRY=/opt/images   the folder of docker archives, NAME:TAG.tar
#   MESOS_PORT=5051, MESOS_MASTER_PORT=5050, MESOS_FOLDER=/var/lib/mesos, MESOS_RUNTIME_DIR=/run/mesos,
#   MESOS_THREADS=4 (libprocess' own default is at least 8)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${MESOS_FOLDER:-/var/lib/mesos}
port=${MESOS_PORT:-5051}
master=$2:${MESOS_MASTER_PORT:-5050}

export LIBPROCESS_IP=$1 LIBPROCESS_PORT=$port
export LIBPROCESS_NUM_WORKER_THREADS=${MESOS_THREADS:-4} LIBPROCESS_SSL_ENABLED=false
unset MESOS_MASTER_PORT MESOS_FOLDER MESOS_THREADS # Mesos takes every MESOS_* for a flag

export MESOS_REGISTRATION_BACKOFF_FACTOR=${MESOS_REGISTRATION_BACKOFF_FACTOR:-1secs}
export MESOS_EXECUTOR_REGISTRATION_TIMEOUT=${MESOS_EXECUTOR_REGISTRATION_TIMEOUT:-1mins}
export MESOS_EXECUTOR_REREGISTRATION_TIMEOUT=${MESOS_EXECUTOR_REREGISTRATION_TIMEOUT:-2secs}
export MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=${MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD:-5secs}
export MESOS_RECOVERY_TIMEOUT=${MESOS_RECOVERY_TIMEOUT:-15mins}

export MESOS_IP=$1 MESOS_PORT=$port MESOS_HOSTNAME=${MESOS_HOSTNAME:-$1} MESOS_MASTER=$master
export MESOS_WORK_DIR=$folder/work MESOS_RUNTIME_DIR=${MESOS_RUNTIME_DIR:-/run/mesos} MESOS_FETCHER_CACHE_DIR=$folder/fetch
export MESOS_LAUNCHER_DIR=$here/libexec MESOS_CONTAINERIZERS=mesos MESOS_SYSTEMD_ENABLE_SUPPORT=false
export MESOS_HTTP_COMMAND_EXECUTOR=true # the executor here speaks the v1 API only
mkdir -p "$MESOS_WORK_DIR" "$MESOS_RUNTIME_DIR" "$MESOS_FETCHER_CACHE_DIR"

has() { # CONTROLLER: whether a cgroup v1 hierarchy with it is mounted here
  awk -v want=",$1," '$3 == "cgroup" && index("," $4 ",", want) { found = 1 } END { exit !found }' /proc/self/mounts
}

if [ -z "${MESOS_LAUNCHER:-}" ]; then
  if has freezer; then MESOS_LAUNCHER=linux; else MESOS_LAUNCHER=posix; fi
fi
export MESOS_LAUNCHER
if [ "$MESOS_LAUNCHER" = linux ]; then
  isolation=namespaces/pid,filesystem/linux,docker/runtime
  if has pids; then isolation=cgroups/pids,$isolation; fi
  if has memory; then isolation=cgroups/mem,$isolation; fi
  if has cpu; then isolation=cgroups/cpu,$isolation; fi
  export MESOS_ISOLATION=${MESOS_ISOLATION:-$isolation}
  export MESOS_CGROUPS_ENABLE_CFS=${MESOS_CGROUPS_ENABLE_CFS:-false} MESOS_CGROUPS_LIMIT_SWAP=false
else
  export MESOS_ISOLATION=${MESOS_ISOLATION:-posix/cpu,posix/mem}
fi
case $MESOS_ISOLATION in *docker/runtime*)
  mkdir -p "$folder/store"
  export MESOS_IMAGE_PROVIDERS=docker MESOS_IMAGE_PROVISIONER_BACKEND=overlay
  export MESOS_DOCKER_REGISTRY=${MESOS_DOCKER_REGISTRY:-/opt/images} MESOS_DOCKER_STORE_DIR=$folder/store
  ;;
*) unset MESOS_DOCKER_REGISTRY ;;
esac

exec "$here/lib/coemesos" agent "$master"
