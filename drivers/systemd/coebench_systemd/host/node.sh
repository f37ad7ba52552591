# Payload of a lab's host: systemd as pid 1 of a process namespace of its own, with the units that a server needs and no more.
UNITS=/etc/systemd/system

sh /usr/local/lib/coebench-systemd/image.sh /opt/images/*.tar && fact images

# what a machine does at its boot was done by the lab, or is the machine's own (udev, sysctl, kernel modules)
for target in sysinit basic sockets timers local-fs local-fs-pre multi-user getty; do
  rm -rf "/lib/systemd/system/$target.target.wants"
done
for unit in modprobe@.service systemd-remount-fs.service systemd-journal-flush.service; do ln -sf /dev/null "$UNITS/$unit"; done
mkdir -p /run/dbus

# a cgroup beside the lab's own, so that the lab can tell the engine's processes from the lab's
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
  [ -e "$hierarchy/cgroup.procs" ] || continue
  case $hierarchy in */cpuset/) continue;; esac
  mkdir -p "$hierarchy/systemd"
done
manager() {
  for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
    [ ! -e "$hierarchy/systemd/cgroup.procs" ] || echo "$BASHPID" > "$hierarchy/systemd/cgroup.procs"
  done
  exec unshare --pid --fork --kill-child --mount-proc -- sh -c '
    mount -o bind,ro /proc/sys /proc/sys
    exec env -i container=coebench PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
      /lib/systemd/systemd --system --unit=coebench.target --show-status=no --log-target=journal-or-kmsg'
}
start systemd manager
until_true busctl --system list
fact api
wait
