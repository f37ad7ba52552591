# The bay's switch and router: a network namespace with a bridge. TREE is the Debian tree; routes come on standard input.
#   switch.sh TREE GATEWAY/BITS      fd 8: a pipe that is told "ok"
set -e
TREE=$1 CIDR=$2
mount --make-rprivate /
mount -t sysfs sysfs /sys 2>/dev/null || :
{ printf 'link set lo up\nlink add br0 type bridge\naddr add %s dev br0\nlink set br0 up\n' "$CIDR"; cat; } | chroot "$TREE" /usr/sbin/ip -b -
echo 1 > /proc/sys/net/ipv4/ip_forward
echo ok >&8; exec 8>&-
exec sleep infinity </dev/null >/dev/null 2>&1
