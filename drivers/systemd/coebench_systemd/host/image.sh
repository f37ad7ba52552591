# image.sh ARCHIVE…: makes images of `docker save` known to this host's systemd: a folder each, and the unit that describes it,
# which nobody ever starts. What there is already is left.
set -eu
here=$(dirname "$0")
for archive; do
  name=$(basename "$archive" .tar); folder=/var/lib/machines/$name
  if [ ! -d "$folder" ]; then
    rm -rf "$folder.new"; mkdir -p "$folder.new"
    tar -xOf "$archive" --wildcards '*/layer.tar' | tar -ixC "$folder.new"
    mv "$folder.new" "$folder"
  fi
  python3 "$here/describe.py" "$archive" "$folder" > "/etc/systemd/system/$name.service"
done
