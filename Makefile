# The menu. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# Where the Python of the driver tests lives; the tests look there too.
VENV := target/venv
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# Debian's names; where there is no apt, `make deps` says what to install instead.
PACKAGES := postgresql postgresql-contrib pgbouncer libpq-dev libpostgresql-jdbc-java default-jdk-headless \
	nodejs npm python3-venv openssl procps gcc bzip2 curl prometheus prometheus-pgbouncer-exporter docker-compose
# Tools that promote standbys: scenarios beside them are left out where they cannot be had.
TOOLS := pg-auto-failover-cli postgresql-15-auto-failover patroni python3-pysyncobj postgresql-15-repmgr
# What proves that a package is there, in the same order of thought.
PROOFS := /usr/lib/postgresql/*/bin/postgres /usr/sbin/pgbouncer /usr/share/java/postgresql.jar \
	/usr/bin/promtool /usr/bin/prometheus-pgbouncer-exporter /usr/bin/docker-compose

# Where cargo builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Where the package is put together from; the manifest of the pooler names it.
DIST := packaging/out

.PHONY: help deps packages tools drivers regress build demo check-demo test fmt-check lint doc unit scenarios fuzz optimized bench fmt certs scrape dist deb check-deb check-files clean

help: ## what there is to do
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */\1|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

deps: packages tools drivers regress ## install what tests and demo need (Debian packages, drivers, PostgreSQL's own tests)

packages:
	@missing=; \
	ls $(PROOFS) >/dev/null 2>&1 || missing=1; \
	for program in psql pgbench openssl cc pg_config ps java node npm python3 bzip2 curl; do \
		command -v $$program >/dev/null || missing=1; \
	done; \
	if [ -n "$$missing" ]; then \
		command -v apt-get >/dev/null || { echo "no apt-get here; install the like of: $(PACKAGES)"; exit 1; }; \
		wanted=; \
		for package in $(PACKAGES); do \
			case $$package in \
				nodejs|npm) command -v node >/dev/null && command -v npm >/dev/null && continue ;; \
				default-jdk-headless) command -v java >/dev/null && command -v javac >/dev/null && continue ;; \
				python3-venv) python3 -m ensurepip --version >/dev/null 2>&1 && continue ;; \
			esac; \
			wanted="$$wanted $$package"; \
		done; \
		$(SUDO) apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$wanted; \
	fi

tools:
	@if command -v apt-get >/dev/null && ! { command -v pg_autoctl && command -v patroni && command -v repmgr; } >/dev/null; then \
		$(SUDO) apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $(TOOLS) \
			|| echo "no $(TOOLS) here: scenarios beside them are left out"; \
	fi

drivers: $(VENV)/.done tests/drivers/node/node_modules/.done

$(VENV)/.done: tests/drivers/python/requirements.txt
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q -r tests/drivers/python/requirements.txt
	touch $@

tests/drivers/node/node_modules/.done: tests/drivers/node/package-lock.json
	cd tests/drivers/node && npm ci --no-audit --no-fund --loglevel=error
	touch $@

# PostgreSQL's own tests, which ours of routing and of sessions run; they stay outside the repository.
regress: packages target/regress/.done

target/regress/.done: tests/regress/fetch.sh
	tests/regress/fetch.sh target/regress
	touch $@

build:
	$(CARGO) build -p hawser

demo: packages ## scratch primary + two standbys, Hawser in front; Ctrl-C removes everything
	$(CARGO) run --release -p hawser -- demo

check-demo: build
	$(CARGO) run -p hawser -- demo --check

test: deps fmt-check lint doc unit check-demo scenarios fuzz ## everything that CI runs

fmt-check:
	$(CARGO) fmt --all --check

lint: ## clippy, warnings are errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

unit: ## unit and property tests
	$(CARGO) test --workspace --exclude hawser-tests --lib --bins --locked
	$(CARGO) test -p hawser --test arrows --locked

# One process per file: its tests share a scratch cluster.
scenarios: build drivers regress ## real clusters, real drivers, the real program
	$(CARGO) test -p hawser-tests --tests --locked --no-fail-fast

fuzz: ## a short run of each fuzz target over its corpus (FUZZ_SECONDS each)
	$(CARGO) test -p hawser-tests --test fuzz --locked -- --ignored --nocapture

optimized: packages ## the release build, trained with pgbench (as it is shipped)
	CARGO="$(CARGO)" packaging/optimize.sh

bench: optimized ## pgbench against direct, Hawser and PgBouncer; criterion benches of the pure rooms
	$(CARGO) run --release -p hawser-benches --bin bench -- --hawser $(TARGET)/optimized/hawser $(BENCH)

# The same, of a site with 10,000 clients: what a scrape costs, and whether pgbench notices (SCRAPE_SECONDS).
scrape: packages ## a scrape of 10,000 clients, 200 pools and 5,000 fingerprints beside pgbench
	$(CARGO) build --release -p hawser
	HAWSER_TEST_BINARY=$(abspath $(TARGET)/release/hawser) HAWSER_SCRAPE_SECONDS=$(or $(SCRAPE_SECONDS),100) \
		$(CARGO) test -p hawser-tests --test scrape --locked -- --ignored --nocapture

dist: optimized ## the program without debug information, its manual pages and completions, in packaging/out
	rm -rf $(DIST)
	$(TARGET)/optimized/hawser manual --into $(DIST)
	strip --strip-debug -o $(DIST)/hawser $(TARGET)/optimized/hawser

deb: dist ## a Debian package (needs `cargo install cargo-deb`)
	$(CARGO) deb -p hawser --no-build --output $(DIST)/

check-deb: deb ## the package, taken apart: its program, settings, unit, manual and completions
	packaging/check.sh $(DIST)/*.deb

check-files: packages build ## the files that no compiler reads: settings, unit, alerts, compose file
	$(CARGO) test -p hawser-tests --test metrics --locked -- files_that_are_shipped dashboard_and_alerts
	promtool check rules docker/prometheus/alerts.yml
	promtool check config --syntax-only docker/prometheus/prometheus.yml
	docker/make-secrets.sh
	docker-compose -f docker/compose.yaml config --quiet

fmt: ## format everything
	$(CARGO) fmt --all

certs: ## a test CA with server and client certificates, in certs/out
	certs/make-certs.sh

clean:
	$(CARGO) clean
	rm -rf certs/out packaging/out tests/drivers/node/node_modules
