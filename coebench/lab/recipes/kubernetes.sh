#!/bin/bash
# Builds Kubernetes from Debian's source package. Runs inside the build tree (chroot), where /build holds the fetched
# sources and, between attempts, the Go build cache: an interrupted build goes on where it stopped.
#
# Not the upstream's binaries in three respects, named in every result:
#   * kubelet.patch takes one check out of the kubelet (the regression of 1.20.0-1.20.2, reverted upstream in 1.20.3);
#   * pkg/generated/openapi/zz_generated.openapi.go is generated anew, since the source package lacks it;
#   * build tags `dockerless providerless`, both upstream's own: no dockershim (the lab runs containerd), no cloud providers.
set -euo pipefail
cd /build
SRC=k8s PKG=k8s.io/kubernetes
if [ ! -e $SRC/.unpacked ]; then
  rm -rf $SRC; dpkg-source --no-check -x kubernetes_*.dsc $SRC >/dev/null
  patch -d $SRC -p1 < /build/kubelet.patch
  touch $SRC/.unpacked
fi
export GOROOT=/usr/lib/go-1.19 PATH=/usr/lib/go-1.19/bin:/usr/sbin:/usr/bin GOPATH=/build/gopath GOCACHE=/build/gocache HOME=/build
export GOFLAGS= GOPROXY=off GOSUMDB=off CGO_ENABLED=0 GO111MODULE=off
mkdir -p $GOPATH/src/k8s.io bin
ln -sfn /build/$SRC $GOPATH/src/$PKG
cd $GOPATH/src/$PKG

if [ ! -s pkg/generated/openapi/zz_generated.openapi.go ]; then
  echo "step openapi"
  go build -o /build/bin/openapi-gen $PKG/vendor/k8s.io/kube-openapi/cmd/openapi-gen
  dirs=$( { find . \( -path ./_output -o -path ./vendor -o -path ./staging -o -path ./.go \) -prune -o -name '*.go' -print
            find vendor/k8s.io/*/ -follow -name '*.go'; } | grep -v _test.go | xargs grep -l '+k8s:openapi-gen=' \
          | grep -vE 'vendor/k8s.io/(code-generator|sample-apiserver|kube-openapi|gengo)/' \
          | xargs -n1 dirname | sed 's,^\./,,' | sort -u | sed "s,^,$PKG/," | paste -sd,)
  /build/bin/openapi-gen --logtostderr -i "$dirs" -p $PKG/pkg/generated/openapi -O zz_generated.openapi \
    -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r /build/openapi-violations.txt
fi

ld="-s -w"
for p in $PKG/vendor/k8s.io/component-base/version $PKG/vendor/k8s.io/client-go/pkg/version; do
  ld="$ld -X $p.gitVersion=v1.20.2 -X $p.gitMajor=1 -X $p.gitMinor=20 -X $p.gitTreeState=archive"
  ld="$ld -X $p.gitCommit=faecb196815e248d3ecfb03c680a4507229c2a56 -X $p.buildDate=2021-01-13T13:20:00Z"
done
for c in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
  echo "step $c"
  go build -trimpath -ldflags "$ld" -tags "selinux notest dockerless providerless" -o /build/bin/$c $PKG/cmd/$c
done
echo "step pause"
gcc -Os -Wall -static -DVERSION=3.2-coebench -o /build/bin/pause build/pause/linux/pause.c 2>/dev/null || gcc -Os -Wall -static -DVERSION=3.2-coebench -o /build/bin/pause build/pause/pause.c
strip /build/bin/pause
