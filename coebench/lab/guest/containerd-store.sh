# Run once while the lab is built, in the Debian tree: imports images/*.tar into a containerd store at /build/store.
set -eu
cd /build
rm -rf store run
mkdir store run
echo 'disabled_plugins = ["io.containerd.grpc.v1.cri"]' > config.toml
containerd --config config.toml --root /build/store --state /build/run --address /build/sock > containerd.log 2>&1 &
pid=$!
trap 'kill $pid; wait $pid || :' EXIT
until ctr -a sock version >/dev/null 2>&1; do kill -0 $pid; sleep 0.02; done
for image in images/*.tar; do ctr -a sock -n k8s.io images import "$image"; done
