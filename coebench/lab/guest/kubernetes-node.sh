# Payload of a node: NAME ADDRESS CONTROL_ADDRESS MINOR (see kubernetes-control.sh)
NAME=$1 IP=$2 CONTROL=$3 MINOR=${4:-20}
[ "$MINOR" != own ] || MINOR=$(minor kubelet)
RUNTIME='' PAUSE=''
if before 24; then RUNTIME='--container-runtime remote'; fi   # from then on there is no other
if before 27; then PAUSE='--pod-infra-container-image coebench-pause:3.2'; fi   # later it asks containerd
cd /etc/kubernetes
start containerd containerd
until_true ctr version
# The store was filled when the lab was built; an image that is not in it is imported now.
images() {
  local have; have=$(ctr -n k8s.io images ls -q)
  for image in /opt/images/*.tar; do
    grep -q "/$(basename "$image" .tar)$" <<< "$have" || nice ctr -n k8s.io images import "$image" >> /var/log/images.log 2>&1
  done
  fact images
}
images &
answers() { curl -so /dev/null --cacert ca.crt "https://$CONTROL:6443/livez"; }
until_true answers   # a kubelet that finds no API server waits longer and longer between its tries
AWS_EC2_METADATA_DISABLED=true start kubelet kubelet --config kubelet.yaml --kubeconfig kubelet.kubeconfig \
  --hostname-override "$NAME" --node-ip "$IP" $RUNTIME \
  --container-runtime-endpoint unix:///run/containerd/containerd.sock $PAUSE
readyz() { [ "$(curl -s --cacert ca.crt "https://$CONTROL:6443/readyz")" = ok ]; }
until_true readyz
start kube-proxy kube-proxy --config proxy.yaml
until_true curl -s http://127.0.0.1:10256/healthz
fact proxy
wait
