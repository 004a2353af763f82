#!/usr/bin/env bash
# Runs the test suites that drivers ship with their sources, against PostgreSQL itself and through Hawser, and says
# what passes. Not part of `make test`: it takes minutes.
#
#   tests/drivers/suites.sh DIRECT_PORT HAWSER_PORT [USER]
#
# Both ports are on 127.0.0.1; USER (postgres) is a superuser who needs no password. Hawser in transaction mode.
#
# Measured with PostgreSQL 15 (pool of 4):
#   psycopg2 2.9  710 pass directly, 706 through Hawser. The four others end or look up "their" server process by the number
#                 that they were told at login, which is the session's.
#   asyncpg 0.32  311 pass directly; 6 of these fail through Hawser, and 7 more cannot drop their database while the pool has
#                 connections to it. Of the 6 three look for the process number, one for a database left by another test.
set -euo pipefail
direct=$1 hawser=$2 user=${3:-postgres}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q asyncpg psycopg2-binary pytest distro
venv/bin/pip download -q --no-deps --no-binary asyncpg,psycopg2 asyncpg psycopg2
for archive in *.tar.gz; do tar xzf "$archive"; done
psql=(psql -h 127.0.0.1 -p "$direct" -U "$user" -d postgres -q)
"${psql[@]}" -c 'DROP DATABASE IF EXISTS psycopg2_test' -c 'CREATE DATABASE psycopg2_test'
export PSYCOPG2_TESTDB=psycopg2_test PSYCOPG2_TESTDB_HOST=127.0.0.1 PSYCOPG2_TESTDB_USER=$user PSYCOPG2_TEST_FAST=1
export PGHOST=127.0.0.1 PGUSER=$user PGDATABASE=postgres
for port in "$direct" "$hawser"; do
	for suite in psycopg2-*/ asyncpg-*/; do
		# The package itself is the installed one, not the sources beside the tests.
		rm -rf here && mkdir here && cp -r "$suite/tests" here/tests
		echo "== ${suite%/} on port $port"
		(cd here && PGPORT=$port PSYCOPG2_TESTDB_PORT=$port timeout 900 ../venv/bin/python -m pytest -q -p no:cacheprovider \
			--deselect tests/test__sourcecode.py tests 2>&1 | grep -E '^(FAILED|ERROR|SUBFAILED)|passed|failed') || true
	done
done
