#!/bin/sh
# Fills in what only the running instance knows, then becomes nginx.
set -e
started=$(date +%s.%N)
instance=${COEBENCH_INSTANCE:-${MESOS_TASK_ID:-$(hostname)}}
mkdir -p /tmp/www
[ -n "${COEBENCH_UNHEALTHY:-}" ] || echo ok > /tmp/www/healthz   # a bad version, on demand: it answers, but never as healthy
sed -e "s|@PORT@|${COEBENCH_PORT:-${PORT0:-8080}}|" -e "s|@INSTANCE@|$instance|" \
    -e "s|@VERSION@|${COEBENCH_IMAGE_VERSION:-?}|" -e "s|@STARTED@|$started|" /srv/nginx.conf > /tmp/nginx.conf
exec nginx -c /tmp/nginx.conf
