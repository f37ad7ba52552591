# Payload of a node of a bay without a COE: NAME ADDRESS. Images are unpacked beforehand, a folder each.
NAME=$1 IP=$2
mkdir -p /var/lib/mesos/bare/images
for image in /opt/images/*.tar; do
  name=$(basename "$image" .tar); folder=/var/lib/mesos/bare/images/$name
  [ -d "$folder" ] && continue
  mkdir -p "$folder.new"
  tar -xOf "$image" --wildcards '*/layer.tar' | tar -xC "$folder.new"
  tar -xOf "$image" manifest.json > "$folder.manifest"
  tar -xOf "$image" "$(sed 's/.*"Config": "\([^"]*\)".*/\1/' "$folder.manifest")" > "$folder.json"
  mv "$folder.new" "$folder"
done
fact images
if [ -e /sys/fs/cgroup/cgroup.procs ]; then mkdir -p /sys/fs/cgroup/instances; else   # v2, or v1
  for c in /sys/fs/cgroup/*/; do mkdir -p "$c/instances"; done
fi
start starter python3 /opt/coebench/guest/bare-starter "$NAME" "$IP" /var/lib/mesos/bare
wait
