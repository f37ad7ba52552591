# What payloads share. Sourced by pid 1's child in every host.
set -u
RUN=/run/coebench

# start NAME COMMAND…: run an engine's process in the background; log in /var/log/NAME.log, pid in NAME.pid, and, should it
# end, its exit status in NAME.exit, which is how the lab learns of it. A line into NAME.again then starts it anew: from the
# same shell, so with the same arguments, environment, folder and cgroup. (NAME.stopped: the lab itself has ended it.)
start() {
  local name=$1; shift
  mkfifo "$RUN/$name.again"
  ( exec 7<>"$RUN/$name.again"
    while :; do
      "$@" >> "/var/log/$name.log" 2>&1 7<&- & pid=$!
      echo $pid > "$RUN/$name.pid"
      rc=0; wait $pid || rc=$?
      echo $rc > "$RUN/$name.exit.new"; mv "$RUN/$name.exit.new" "$RUN/$name.exit"
      read -r _ <&7
      rm -f "$RUN/$name.pid" "$RUN/$name.exit" "$RUN/$name.stopped"
    done ) &
}

# fact NAME: tell the lab that something is reached
fact() { : > "$RUN/$1.ok"; }

# until_true COMMAND…: wait until it succeeds. Between two tries as long as a try took: on a slow machine nothing else would run.
until_true() {
  local begun took
  while begun=${EPOCHREALTIME/./}; ! "$@" >/dev/null 2>&1; do
    took=$((${EPOCHREALTIME/./} - begun)); [ $took -gt 20000 ] || took=20000   # in µs
    sleep "$(printf '%d.%06d' $((took / 1000000)) $((took % 1000000)))"
  done
}

# of Kubernetes' programs: minor PROGRAM tells the M of its version 1.M; before M: whether MINOR is older
minor() { "$1" --version | sed -n 's/.*v1\.\([0-9]*\).*/\1/p'; }
before() { [ "$MINOR" -lt "$1" ]; }
