# Makes this process, already pid 1 of new namespaces but in the machine's own network, into the place where the lab's Magnum
# runs, then becomes tini with the services below.
#
#   plane.sh DIR TREE LOWER PAYLOAD [ARGUMENT…]
#
# DIR holds upper/, work/, root/, etc/, log/, data/ and spool/; TREE is the Debian tree, LOWER the overlay's lower layers.
# fd 8: a pipe that is told "ok" once the place stands. Nothing here is seen outside these namespaces.
set -e
D=$1 LOWER=$2 GUEST=$3; shift 3
R=$D/root
mount --make-rprivate /
hostname magnum
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$D/upper,workdir=$D/work" "$R"
mkdir -p "$R/opt/coebench" "$R/var/lib/magnum" "$R/var/lib/spool"
mount --bind -o ro "$GUEST" "$R/opt/coebench"
for service in keystone glance magnum; do mkdir -p "$R/etc/$service"; mount --bind "$D/etc/$service" "$R/etc/$service"; done
mount --bind "$D/data" "$R/var/lib/magnum"
mount --bind "$D/spool" "$R/var/lib/spool"
mount --bind "$D/log" "$R/var/log"
mount -t proc proc "$R/proc"
mount -t tmpfs -o mode=755 tmpfs "$R/run"; mkdir -p "$R/run/coebench" "$R/run/mysqld" "$R/run/lock"
mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"
mount -t tmpfs -o mode=755 tmpfs "$R/dev"; mkdir "$R/dev/pts" "$R/dev/shm"
for d in null zero full random urandom tty; do cp -a /dev/$d "$R/dev/"; done
ln -s /proc/self/fd "$R/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$R/dev/shm"
printf '127.0.0.1 localhost magnum\n' > "$R/etc/hosts"
cd "$R"; mkdir -p old; pivot_root . old; umount -l /old; rmdir /old
echo ok >&8; exec 8>&-
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root HOSTNAME=magnum LC_ALL=C.UTF-8 \
  /usr/bin/tini -g -- bash -c '. /opt/coebench/guest/lib.sh; . "$0"' "$@" </dev/null >/var/log/plane.log 2>&1
