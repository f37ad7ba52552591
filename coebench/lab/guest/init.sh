# Makes this process, already pid 1 of new namespaces, into a lab host, then becomes tini with the host's payload below.
#
#   init.sh DIR NAME ADDRESS/BITS GATEWAY TREE LOWER PAYLOAD [ARGUMENT…]
#
# DIR holds upper/, work/, root/ and data/; TREE is the Debian tree, LOWER the overlay's lower layers (TREE the last).
# fd 9: the switch's network namespace; fd 8: a pipe that is told "ok" once the host stands. Machine-side tools needed:
# util-linux and a shell only; everything to do with links comes from TREE. Nothing here is seen outside these namespaces.
set -e
D=$1 NAME=$2 CIDR=$3 GATEWAY=$4 TREE=$5 LOWER=$6; shift 6
R=$D/root
mount --make-rprivate /
hostname "$NAME"
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$D/upper,workdir=$D/work" "$R"
mount -t proc proc "$R/proc"   # iproute2 6.15 and later looks a namespace up by its process there

# one cable to the switch: made there, its far end put here; then this end configured
printf 'link add p%s type veth peer name eth0 netns 1\nlink set p%s master br0 up\n' "$NAME" "$NAME" |
  nsenter --net=/proc/self/fd/9 chroot "$R" /usr/sbin/ip -b -
exec 9<&-
{ printf 'link set lo up\naddr add %s dev eth0\nlink set eth0 up\nroute add default via %s\n' "$CIDR" "$GATEWAY"
  echo 'route add unreachable 169.254.0.0/16'   # cloud metadata services are looked for there, for seconds
  cat "$D/routes"; } | chroot "$TREE" /usr/sbin/ip -b -

printf '127.0.0.1 localhost\n%s %s\n' "${CIDR%/*}" "$NAME" > "$R/etc/hosts"
cat "$D/hosts" >> "$R/etc/hosts"
echo "$NAME" > "$R/etc/hostname"
md5sum < "$R/etc/hostname" | cut -c1-32 > "$R/etc/machine-id"
rm -f "$R/etc/resolv.conf"; printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' > "$R/etc/resolv.conf"

# what engines keep can't lie on an overlay, since they make overlays of their own: real disk
for d in docker containerd kubelet mesos; do
  mkdir -p "$D/data/$d" "$R/var/lib/$d"; mount --bind "$D/data/$d" "$R/var/lib/$d"
done
mkdir -p "$R/opt/coebench" "$R/opt/images"
mount --bind -o ro "$D/guest" "$R/opt/coebench"
mount --bind -o ro "$D/images" "$R/opt/images"

mount -t sysfs sysfs "$R/sys"
mount -t tmpfs -o mode=755 tmpfs "$R/run"; mkdir -p "$R/run/lock" "$R/run/sysctl" "$R/run/coebench"
mount -t tmpfs -o mode=755 tmpfs "$R/dev"; mkdir "$R/dev/pts" "$R/dev/shm" "$R/dev/mqueue"
for d in null zero full random urandom tty kmsg; do [ ! -e /dev/$d ] || cp -a /dev/$d "$R/dev/"; done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$R/dev/pts"
ln -s pts/ptmx "$R/dev/ptmx"; ln -s /proc/self/fd "$R/dev/fd"
ln -s /proc/self/fd/1 "$R/dev/stdout"; ln -s /proc/self/fd/2 "$R/dev/stderr"
mount -t tmpfs -o mode=1777 tmpfs "$R/dev/shm"
mount -t mqueue mqueue "$R/dev/mqueue"

# the cgroup namespace makes the host's own cgroup "/" of each hierarchy, so that every engine keeps its default paths
# (A hierarchy that is mounted nowhere on the machine is not one in which the lab could make a cgroup for this host.)
MOUNTS=$(cat /proc/self/mounts)
mounted() { [[ $MOUNTS =~ " cgroup "[^\ ]*,"$1"[,\ ] ]]; }
v1() { # HIERARCHY's controllers or name=NAME: mount it
  m=$R/sys/fs/cgroup/${1#name=}; mkdir -p "$m"
  case $1 in name=*) o=none,$1;; *) o=$1;; esac
  mount -t cgroup -o "$o" cgroup "$m"
  mkdir -p "$m/init"; echo 1 > "$m/init/cgroup.procs"
}
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then   # cgroup v2: controllers can be handed on since no process is in "/" itself
  mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
  mkdir -p "$R/sys/fs/cgroup/init"; echo 1 > "$R/sys/fs/cgroup/init/cgroup.procs"
  for c in $(cat "$R/sys/fs/cgroup/cgroup.controllers"); do echo "+$c" > "$R/sys/fs/cgroup/cgroup.subtree_control"; done
  if mounted freezer; then v1 freezer; fi   # for Mesos, on a mount point that is an empty cgroup of v2
else
  mount -t tmpfs -o mode=755 tmpfs "$R/sys/fs/cgroup"
  while IFS=: read -r _ c _; do
    [ -n "$c" ] && mounted "$c" || continue
    v1 "$c"
    case $c in *,*) for one in $(echo "$c" | tr , ' '); do ln -sfn "$c" "$R/sys/fs/cgroup/$one"; done;; esac
  done < /proc/1/cgroup
fi

# No sysctl outside net/ can be changed from here. What a kubelet insists on setting is shown to it as set already.
cd "$R/proc/sys"; mount --bind net "$R/run/lock"; mount --bind -o ro . .
cd "$R/proc/sys"; mount --move "$R/run/lock" net
for kv in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1; do
  f=$R/run/sysctl/$(echo "${kv%=*}" | tr / _); echo "${kv#*=}" > "$f"; mount --bind "$f" "$R/proc/sys/${kv%=*}"
done
echo 1 > "$R/proc/sys/net/ipv4/ip_forward"
if [ -s "$D/meminfo" ]; then mount --bind "$D/meminfo" "$R/proc/meminfo"; fi   # engines see the host's memory, not the machine's

cd "$R"; mkdir -p old; pivot_root . old; umount -l /old; rmdir /old
mount --make-rshared /
echo ok >&8; exec 8>&-
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root HOSTNAME="$NAME" LC_ALL=C.UTF-8 \
  /usr/bin/tini -g -- bash -c '. /opt/coebench/guest/lib.sh; . "$0"' "$@" </dev/null >/var/log/host.log 2>&1
