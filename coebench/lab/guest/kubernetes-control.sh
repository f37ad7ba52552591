# Payload of the control host: ADDRESS SERVICES MONITOR_PERIOD MONITOR_GRACE UNREACHABLE_TOLERATION NOT_READY_TOLERATION MINOR
# MINOR, of the version 1.MINOR, says which flags there are; "own": programs of the user's, which are asked
IP=$1 SERVICES=$2 PERIOD=$3 GRACE=$4 UNREACHABLE=$5 NOT_READY=$6 MINOR=${7:-20}
[ "$MINOR" != own ] || MINOR=$(minor kube-apiserver)
before 24 && INSECURE=--insecure-port=0 PORT=--port=0 || INSECURE='' PORT=''
cd /etc/kubernetes
mkdir -p /run/etcd
start etcd etcd --name lab --data-dir /run/etcd/data --log-level warn \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster lab=http://127.0.0.1:2380
start apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --bind-address="$IP" --advertise-address="$IP" \
  --secure-port=6443 $INSECURE --tls-cert-file=apiserver.crt --tls-private-key-file=apiserver.key --client-ca-file=ca.crt \
  --kubelet-client-certificate=kubelet-client.crt --kubelet-client-key=kubelet-client.key --authorization-mode=Node,RBAC \
  --service-cluster-ip-range="$SERVICES" --service-account-key-file=sa.pub --service-account-signing-key-file=sa.key \
  --service-account-issuer=https://kubernetes.default.svc --allow-privileged=true --kubelet-preferred-address-types=InternalIP \
  --default-unreachable-toleration-seconds="$UNREACHABLE" --default-not-ready-toleration-seconds="$NOT_READY"
common="--leader-elect=false $PORT --bind-address=127.0.0.1"
config() { echo "--kubeconfig=$1 --authentication-kubeconfig=$1 --authorization-kubeconfig=$1"; }
# not merely an open port: the scheduler needs the roles that the API server makes at its start, or exits
readyz() { [ "$(curl -s --cacert ca.crt "https://$IP:6443/readyz")" = ok ]; }
until_true readyz
# The controller manager has one identity for all controllers, its default. With a service account for each it would spend
# seconds of its allowed 20 requests a second on making them.
start controller-manager kube-controller-manager $common $(config kcm.kubeconfig) --root-ca-file=ca.crt \
  --service-account-private-key-file=sa.key --cluster-signing-cert-file=ca.crt --cluster-signing-key-file=ca.key \
  --node-monitor-period="$PERIOD" --node-monitor-grace-period="$GRACE"
start scheduler kube-scheduler $common $(config sched.kubeconfig)
wait
