# Every command here works on a fresh machine: the stack installs what is missing.
# Targets forward ARGS, as in `make demo ARGS=--smoke`.

include tests/tiers.mk

STACK := deploy/stack
ARGS  ?=

# Benchmarks, and tests that start their own Prometheus, do not use the stack's.
ALONE := STACK_WITHOUT=prometheus

# The unit test that plays the file that ALERT_CASES names, and writes what did not hold.
PLAY_ALERT_CASES := worked_cases::tests::a_file_of_examples_holds

# More than the cores: most tests wait for servers most of the time.
E2E_THREADS := --test-threads=6

# A failed test prints its error; a backtrace of many screens would bury it.
export RUST_LIB_BACKTRACE := 0

.PHONY: help demo check test soak soak-tests cases alert-cases bench bench-pipeline bench-worker bench-alerter bench-peaks bench-telemetry bench-takeover scaling-drill install fmt lint docs unit e2e e2e-check e2e-mysql deny promtool deploy-check dist configuration

help:  ## List the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: install  ## Run everything with a simulated fleet; ARGS=--smoke: 30 s, with a verdict
	cargo build --workspace --bins
	$(STACK) run -- target/debug/demo $(ARGS)

check: install fmt lint unit e2e-check  ## Before a commit: format, clippy, unit tests, the main promises on MariaDB; 12 min at most

test: install fmt lint docs unit deny promtool deploy-check e2e e2e-mysql  ## All that CI runs; 50 min at most

soak: install  ## Before a release: 90 min of load with random faults for each of SEEDS="1 2 3"; saves the results
	cargo build --release --workspace --bins
	@status=0; for seed in $(or $(SEEDS),$(shell od -An -N3 -tu4 /dev/urandom)); do \
	  STACK_WAIT=300 STACK_WITHOUT="prometheus jaeger" $(STACK) run -- target/release/soak --seed $$seed --save $(ARGS) || status=1; \
	done; exit $$status

soak-tests: install  ## Before a release: tests of kills, overload and long runs on both databases, in an hour; saves the results
	cargo build --workspace --bins
	cargo build --release --workspace --bins
	@PREVIOUS_PROGRAMS=$$($(STACK) previous) || exit 1; export PREVIOUS_PROGRAMS; \
	status=0; for database in mariadb mysql; do \
	  export STACK_DATABASE=$$database; \
	  $(ALONE) ALERT_KILLS=100 ALERT_READINGS=400 $(STACK) run -- tests/soak/run $(SOAK) || status=1; \
	  $(ALONE) $(STACK) run -- target/release/bench store --rounds 0 --soak 10m --save || status=1; \
	done; exit $$status

bench: install  ## Figures with their targets, and ratios to the machine's limits
	cargo build --release --workspace --bins
	$(ALONE) $(STACK) run -- target/release/bench $(ARGS)

bench-pipeline: install  ## The plan's figures from five runs of the whole pipeline; saves the figures
	cargo build --release --workspace --bins
	STACK_BINLOG=1 $(ALONE) $(STACK) run --require-jaeger -- target/release/bench pipeline --runs 5 --save $(or $(ARGS),now)

bench-worker: install  ## The worker against the limits of MariaDB and MySQL, in two hours; saves the figures
	cargo build --release --workspace --bins
	@status=0; for database in mariadb mysql; do \
	  $(ALONE) STACK_DATABASE=$$database $(STACK) run -- target/release/bench store --save $(ARGS) || status=1; \
	done; exit $$status

bench-alerter: install  ## Readings that one core evaluates a second, then the alerter on the real servers; saves the figures
	cargo bench -p ljwx-alerter --bench evaluation
	cargo build --release --workspace --bins
	$(ALONE) $(STACK) run -- target/release/bench alerter --memory --save $(ARGS)

bench-peaks: install  ## The alerter while thousands are missing, a million are assigned, notifications are owed or wait; saves the figures
	cargo build --release --workspace --bins
	$(ALONE) $(STACK) run -- target/release/bench peaks --save $(ARGS)

bench-telemetry: install  ## The cost of spans for the gateway and the worker
	cargo build --release --workspace --bins
	$(ALONE) $(STACK) run -- target/release/bench --rounds 5 telemetry

bench-takeover: install  ## Time until others store and alert for a killed replica, 20 kills; saves the figures
	cargo build --release --workspace --bins
	$(ALONE) $(STACK) run -- target/release/bench takeover --save $(ARGS)

scaling-drill: install  ## Workers added and removed by lag, as Kubernetes would, while load rises and falls, in 10 min; saves the figures
	cargo build --release --workspace --bins
	STACK_BINLOG=1 $(ALONE) $(STACK) run -- target/release/bench scaling --save $(ARGS)

install:  ## Install missing servers and build tools
	$(STACK) install

fmt:  ## Check the formatting
	cargo fmt --all --check

lint:  ## Run Clippy, warnings denied
	cargo clippy --workspace --all-targets -- -D warnings

docs:  ## Build the documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

unit:  ## Run unit and property tests, which need no server
	cargo test --workspace --lib --bins

e2e:  ## Run end-to-end and storage tests on the real servers, except those of soak-tests; ARGS=names: only these
	cargo build --workspace --bins
	$(ALONE) $(STACK) run --require-jaeger -- cargo test --workspace --test e2e --test storage -- $(E2E_THREADS) $(or $(ARGS),$(SOAK:%=--skip %))

e2e-check:
	$(MAKE) e2e ARGS="$(CHECK)"

e2e-mysql:  ## Run the tests whose SQL differs on MySQL instead of MariaDB; ARGS=names: only these
	STACK_DATABASE=mysql $(MAKE) install
	cargo build --workspace --bins
	STACK_DATABASE=mysql $(ALONE) $(STACK) run -- sh -c 'cargo test --workspace --test storage && \
	  cargo test --workspace --test e2e -- $(E2E_THREADS) $(or $(ARGS),$(MYSQL) --skip operators:: $(SOAK:%=--skip %))'

cases: install  ## Run a file of worked examples against the real gateway: FILE=tests/cases/gateway_cases.json
	cargo build --workspace --bins
	$(ALONE) $(STACK) run -- target/debug/cases $(or $(FILE),tests/cases/gateway_cases.json)

alert-cases: install  ## Play a file of worked examples of alerts, without servers: FILE=tests/cases/alert2_cases.json
	cargo test -p ljwx-alerter --lib --no-run
	@report=$$(mktemp) || exit 1; status=0; \
	ALERT_CASES="$(abspath $(or $(FILE),tests/cases/alert2_cases.json))" ALERT_CASES_REPORT="$$report" \
	  cargo test -p ljwx-alerter --lib -- --ignored --exact $(PLAY_ALERT_CASES) >"$$report.log" 2>&1 || status=1; \
	if [ -s "$$report" ]; then cat "$$report"; else cat "$$report.log"; status=1; fi; \
	rm -f "$$report" "$$report.log"; exit $$status

configuration:  ## Write docs/configuration.md from the definitions of the commands; a unit test compares them
	WRITE_CONFIGURATION=1 cargo test --workspace --lib the_documented_settings_and_exit_codes_are_those_of_the_commands

promtool:  ## Check the operators' alert rules and run their unit tests
	cd deploy/prometheus && promtool check config prometheus.yml && promtool test rules rules_test.yml

deploy-check:  ## Check the form of the files in deploy/: manifests, units, compose.yaml, Dockerfile, scripts
	deploy/check

dist: install  ## Build the release into target/dist: stripped programs, units, checksums, dependencies
	GIT_COMMIT=$$(git rev-parse HEAD) cargo build --release --locked -p ljwx-gateway -p ljwx-worker -p ljwx-alerter
	deploy/dist

deny:  ## Check licences and sources of dependencies, if cargo-deny is installed
	@if command -v cargo-deny >/dev/null; then cargo deny check licenses bans sources; \
	else echo "cargo-deny is not installed: licences are checked by a unit test, sources and advisories are not"; fi
