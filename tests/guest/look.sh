#!/bin/bash
# look.sh: what the machine looks like from outside the lab, a line each, to be compared before and after. What the system itself
# has come and go (sessions, its services' own mounts) is left out; modules are marked, since they may stay.
sed 's/^[0-9]* [0-9]* [0-9:]* /mount /' /proc/self/mountinfo | grep -v '/run/user/\|/run/credentials'
cd /sys/fs/cgroup && find . -type d | grep -v 'session-\|user-\|user@\|systemd-.*\.service\|ssh' | sed 's/^/cgroup /'
echo "cgroup root hands on: $(cat /sys/fs/cgroup/cgroup.subtree_control)"
ls /sys/class/net | sed 's/^/link /'
find /run/netns ~/.local/state/coebench/lab/bays ~/.local/state/coebench/private -mindepth 1 2>/dev/null | sed 's/^/kept /'
find /proc/sys/vm /proc/sys/kernel /proc/sys/net/core /proc/sys/net/ipv4 /proc/sys/net/ipv6 /proc/sys/net/bridge \
  /proc/sys/user /proc/sys/fs -type f -readable 2>/dev/null |
  grep -v -E 'random|/nr_|inode-|dentry-|file-nr|ns_last_pid|pty/nr|_count$|usage|perf_event_max_sample|aio-nr|cad_pid|max_newidle|lease|flush|/conf/(veth|br)|stat_refresh|compact_memory|drop_caches|quota/syncs' |
  xargs grep -H . 2>/dev/null | sed 's/^/sysctl /'
ps --ppid 2 -p 2 -N -o comm,args --no-headers |
  grep -v -E '^(sshd|bash|ps|sed|sftp|\(sd-pam|systemd|agetty|sleep|grep|sh|sort|find|xargs|dbus-daemon|\(udev-worker\)|unattended|modprobe)' |
  sed 's/^/process /'
for n in net mnt cgroup pid uts ipc; do
  readlink /proc/[0-9]*/ns/$n 2>/dev/null | sort | uniq | grep -c . | sed "s/^/namespaces $n /"
done
awk '{print "module", $1}' /proc/modules
