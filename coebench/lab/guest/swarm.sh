# Payload of a manager or worker: ROLE. The API is /run/docker.sock; the lab itself lets hosts join.
ROLE=$1
start dockerd dockerd -H unix:///run/docker.sock --storage-driver=overlay2
ping() { [ "$(curl -s --unix-socket /run/docker.sock http://docker/_ping)" = OK ]; }
until_true ping
fact api
if [ "$ROLE" = node ]; then
  for image in /opt/images/*.tar; do docker load -qi "$image" >> /var/log/images.log 2>&1; done
fi
fact images
wait
