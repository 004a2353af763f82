#!/bin/bash
# A standby: copies the primary once, then follows it.
set -euo pipefail
export PGDATA=${PGDATA:-/var/lib/postgresql/data}
PGPASSWORD=$(cat /run/secrets/replication_password)
export PGPASSWORD
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    until pg_basebackup -h primary -U replication -D "$PGDATA" -R -X stream -c fast; do
        echo "the primary is not ready yet"
        rm -rf "${PGDATA:?}"/*
        sleep 2
    done
    chmod 0700 "$PGDATA"
fi
exec postgres -c hot_standby=on
