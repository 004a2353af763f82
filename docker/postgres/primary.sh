#!/bin/bash
# Run once by the image of PostgreSQL, on a new primary: who may replicate, and the application's role and database.
set -euo pipefail
psql -v ON_ERROR_STOP=1 -v app="$(cat /run/secrets/app_password)" -v replication="$(cat /run/secrets/replication_password)" <<'SQL'
CREATE ROLE replication REPLICATION LOGIN PASSWORD :'replication';
CREATE ROLE app LOGIN PASSWORD :'app';
CREATE DATABASE app OWNER app;
GRANT pg_monitor TO app;
SQL
echo "host replication replication all scram-sha-256" >> "$PGDATA/pg_hba.conf"
