#!/bin/sh
# Makes the secrets that compose.yaml names, each once: a secret that is there stays.
set -eu
umask 077
folder="$(dirname "$0")/secrets"
mkdir -p "$folder"
for name in postgres_password app_password replication_password admin_password http_token grafana_password; do
    [ -s "$folder/$name" ] || head -c 24 /dev/urandom | base64 | tr -d '\n/+=' > "$folder/$name"
    # The containers read them as users of their own.
    chmod 0444 "$folder/$name"
done
echo "secrets are in $folder"
