# Payload of a manager or worker: ROLE [balancers]. The API is /run/docker.sock; the lab itself lets hosts join. The registry is the bay's
# own, which may come and go.
ROLE=$1 TLS=/etc/docker/tls
remote() {
  [ ! -e $TLS/ca.pem ] || echo "-H tcp://0.0.0.0:2376 --tlsverify --tlscacert=$TLS/ca.pem --tlscert=$TLS/cert.pem --tlskey=$TLS/key.pem"
}
# "balancers": the kernel has ip_vs, so Docker's virtual IPs are served
if [ "${2:-}" = balancers ]; then
  python3 -ISE /opt/coebench/guest/balancers.py /run/docker/netns > /var/log/balancers.log 2>&1 &
fi
# shellcheck disable=SC2046  # words, on purpose
start dockerd dockerd -H unix:///run/docker.sock $(remote) --storage-driver=overlay2 --insecure-registry=10.77.2.1:80
ping() { [ "$(curl -s --unix-socket /run/docker.sock http://docker/_ping)" = OK ]; }
until_true ping
fact api
if [ "$ROLE" = node ]; then
  for image in /opt/images/*.tar; do
    curl -sS --unix-socket /run/docker.sock -X POST -T "$image" -H Expect: http://docker/images/load >> /var/log/images.log 2>&1
  done
fi
fact images
wait
