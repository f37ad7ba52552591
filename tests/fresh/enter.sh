# enter.sh TREE SOURCE COMMAND…: run a command with TREE as the root file system and SOURCE, read-only, at /mnt/source.
#
# To be run in mount and PID namespaces of its own, which end with it and take all mounts and processes along.
# pivot_root, not chroot: in a chroot "/" is no mount, and unshare --mount fails in there.
set -eu
TREE=$1 SOURCE=$2
shift 2
mount --make-rprivate /
mount --bind "$TREE" "$TREE"
cd "$TREE"
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/shm dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
for node in null zero full random urandom tty; do
  : >"dev/$node"
  mount --bind "/dev/$node" "dev/$node"
done
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for number in 0 1 2; do ln -s "fd/$number" "dev/$(echo stdin stdout stderr | cut -d ' ' -f $((number + 1)))"; done
mkdir -p mnt/source
mount --bind "$SOURCE" mnt/source
mount -o remount,bind,ro mnt/source
pivot_root . .
cd /
umount -l . # the machine's own file systems, which lie above
exec "$@"
