#!/usr/bin/env bash
# Runs the test suites that drivers ship with their sources, against PostgreSQL itself and through Hawser, and says
# what passes. Not part of `make test`: it takes minutes.
#
#   tests/drivers/suites.sh DIRECT_PORT HAWSER_PORT [USER]
#
# Both ports are on 127.0.0.1; USER (postgres) is a superuser who needs no password. Hawser in transaction mode.
#
# Seen with PostgreSQL 15 and a pool of 4; other versions and machines may differ by a few:
#   psycopg 3.3.4       4,947 pass directly, 15 of these not through Hawser, before self-termination was told apart: 12 end the
#                       server process whose number they were told at login, which is the session's.
#   psycopg2 2.9        710 pass directly, 4 of these not through Hawser, for the same reason.
#   asyncpg 0.32        310 pass directly, 7 of these not through Hawser: three end a server process by its number and expect
#                       the session to end, one of them disturbs the next test; two expect the number told at login
#                       as the sender of another session's notification; one drops a database to which the pool
#                       is connected, as one class of tests does when it is torn down.
#   node-postgres 8.23  77 files pass directly, 5 of these did not through Hawser: two have been mended since (no application
#                       name; a farewell before the login), three end server processes and expect the session to end.
# psycopg 3 and node-postgres do not ship their tests with the package; a checkout of their sources has them.
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
