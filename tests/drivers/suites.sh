#!/usr/bin/env bash
# Runs the test suites that drivers ship, against PostgreSQL itself and through Hawser, and says what passes directly
# and not through Hawser. Not part of `make test`: it takes from minutes to an hour.
#
#   tests/drivers/suites.sh DIRECT_PORT HAWSER_PORT [USER]
#
# SUITES="asyncpg pgjdbc" in the environment runs those only.
#
# Both ports are on 127.0.0.1; USER (postgres) is a superuser who needs no password. Hawser in transaction mode.
# The tests of psycopg2, asyncpg and SQLAlchemy (its dialect, over psycopg 3) come from PyPI. Those of psycopg 3,
# node-postgres and pgjdbc come with their sources only: a checkout of each is named by PSYCOPG_SOURCES,
# NODE_POSTGRES_SOURCES (with `npm install` done in it) and PGJDBC_TESTS (a class path with its compiled tests, the
# driver and JUnit's console launcher; the tests' build.properties lie beside the folder in which this is started).
#
# What was seen, and why the rest differs, is in pooler/design/session-state.md.
set -euo pipefail
direct=$1 hawser=$2 user=${3:-postgres}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
here=$PWD
cd "$work"
python3 -m venv venv
venv/bin/pip install -q asyncpg psycopg2-binary 'psycopg[binary]' 'sqlalchemy[asyncio]' pytest pytest-asyncio anyio distro
venv/bin/pip download -q --no-deps --no-binary asyncpg,psycopg2,sqlalchemy asyncpg psycopg2 sqlalchemy
for archive in *.tar.gz; do tar xzf "$archive"; done
export PGHOST=127.0.0.1 PGUSER=$user PGDATABASE=postgres PSYCOPG2_TEST_FAST=1
export PSYCOPG2_TESTDB=suite PSYCOPG2_TESTDB_HOST=127.0.0.1 PSYCOPG2_TESTDB_USER=$user PSYCOPG_IMPL=binary

# A database `suite` as the suites want it, new for each run.
fresh() {
	local psql=(psql -h 127.0.0.1 -p "$direct" -U "$user" -q)
	PGOPTIONS='-c client_min_messages=warning' "${psql[@]}" -d postgres \
		-c 'DROP DATABASE IF EXISTS suite WITH (FORCE)' -c 'CREATE DATABASE suite'
	"${psql[@]}" -d suite -c 'CREATE SCHEMA test_schema' -c 'CREATE SCHEMA test_schema_2' \
		-c 'CREATE EXTENSION hstore' -c 'CREATE EXTENSION citext' -c 'CREATE EXTENSION pgcrypto'
}

# pytest's tests in the folder $3, with what follows, as `passed NAME` and `failed NAME`.
python_suite() {
	local port=$1 out=$2 folder=$3
	shift 3
	(cd "$folder" && PGPORT=$port PSYCOPG2_TESTDB_PORT=$port timeout 1800 "$work/venv/bin/python" -m pytest -q \
		-o cache_dir="$work/cache" -rA "$@" 2>&1) | sed -nE 's/^PASSED (.*)/passed \1/p; s/^(FAILED|ERROR) ([^ ]*).*/failed \2/p' >"$out" || true
}

# The installed package is tested, not the sources beside the tests.
only_tests() {
	mkdir -p "$1-tests" && cp -r "$1"-[0-9]*/tests "$1-tests/"
}

# Each test of a file counts, and a file that names no tests counts as one. A test that fails ends its file otherwise.
node_suite() {
	local port=$1 out=$2 url=postgres://$user@127.0.0.1:$1/suite
	cd "$NODE_POSTGRES_SOURCES/packages/pg"
	cat >"$work/suite.js" <<-'END'
		const Suite = require(process.cwd() + '/test/suite.js')
		Suite.prototype.run = (test, next) => {
		  let told = false
		  const tell = (error) => {
		    if (told) return
		    told = true
		    console.log(`\n${error ? 'failed' : 'passed'}: ${test.name}`)
		    next()
		  }
		  setTimeout(() => tell('it takes too long'), test.timeout).unref()
		  test.run(tell)
		}
	END
	find test/integration -name '*-tests.js' | sort | while read -r file; do
		local status=passed
		PGTESTNOSSL=true PGPORT=$port PGDATABASE=suite timeout 60 node -r "$work/suite.js" "$file" "$url" \
			</dev/null >"$work/said" 2>&1 || status=failed
		sed -nE "s#^(passed|failed): #\1 $file: #p" "$work/said" >"$work/tests"
		if [ -s "$work/tests" ]; then cat "$work/tests"; else echo "$status $file"; fi
	done >"$out"
	cd "$work"
}

java_suite() {
	local port=$1 out=$2
	mkdir -p java/run && rm -f java/TEST-*.xml && cp "$here"/*.properties java/
	sed -i "s/^server=.*/server=127.0.0.1/; s/^port=.*/port=$port/; s/^username=.*/username=$user/; s/^database=.*/database=suite/" \
		java/build.properties
	(cd java/run && timeout 1800 java -cp "$PGJDBC_TESTS" org.junit.platform.console.ConsoleLauncher \
		--scan-classpath="${PGJDBC_TESTS%%:*}" --exclude-classname '.*TestSuite' --include-classname '.*Tests?' \
		--details=none --reports-dir=.. >/dev/null 2>&1) || true
	python3 - java/TEST-*.xml >"$out" <<-'END'
		import sys, xml.etree.ElementTree as tree
		for file in sys.argv[1:]:
		    for case in tree.parse(file).iter("testcase"):
		        if case.find("skipped") is None:
		            bad = case.find("failure") is not None or case.find("error") is not None
		            print("failed" if bad else "passed", case.get("classname") + "." + case.get("name"))
	END
}

# Runs the suite $1 on both ports by the command that follows, and tells what differs.
compare() {
	local name=$1 kind=$2
	shift 2
	[ -z "${SUITES:-}" ] || [[ " $SUITES " == *" $name "* ]] || return 0
	local way
	for way in direct hawser; do
		fresh
		"$kind" "${!way}" "$work/$name.$way" "${@//PORT/${!way}}"
	done
	sed -n 's/^passed //p' "$name.direct" | sort -u >"$name.should"
	sed -n 's/^passed //p' "$name.hawser" | sort -u >"$name.does"
	echo "== $name: $(wc -l <"$name.should") pass directly, $(comm -12 "$name.should" "$name.does" | wc -l) of these through Hawser, but for:"
	comm -23 "$name.should" "$name.does"
}

only_tests asyncpg
only_tests psycopg2
compare asyncpg python_suite asyncpg-tests --deselect tests/test__sourcecode.py tests
compare psycopg2 python_suite psycopg2-tests tests
compare sqlalchemy python_suite sqlalchemy-[0-9]*/ test/dialect/postgresql test/dialect/test_suite.py \
	--dburi "postgresql+psycopg://$user@127.0.0.1:PORT/suite"
if [ -n "${PSYCOPG_SOURCES:-}" ]; then
	slow='not slow and not mypy and not proxy and not timing and not refcount and not dns'
	compare psycopg python_suite "$PSYCOPG_SOURCES" -p no:asyncio -m "$slow" --ignore=tests/pool --ignore=tests/test_typing.py \
		--test-dsn "host=127.0.0.1 port=PORT user=$user dbname=suite" tests
fi
[ -z "${NODE_POSTGRES_SOURCES:-}" ] || compare node-postgres node_suite
[ -z "${PGJDBC_TESTS:-}" ] || compare pgjdbc java_suite
