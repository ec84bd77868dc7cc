# `make` alone lists what there is.

.DEFAULT_GOAL := help
SHELL := /bin/bash
CARGO ?= cargo

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: setup ## Serve config/gateway.yaml on https://localhost:8443 with small origins behind it
	@scripts/run

.PHONY: demo
demo: setup ## See a good release promoted and a bad one rolled back, with real traffic
	$(CARGO) run --quiet --locked --package gateway --bin gateway -- demo

.PHONY: test
test: setup ## Run every test
	@scripts/test

.PHONY: check
check: setup ## Formatting, lints and documentation, without tests
	@scripts/check

.PHONY: fmt
fmt: ## Format all code
	$(CARGO) fmt --all

.PHONY: scenarios
scenarios: setup ## Play every scenario: bad canaries, cutovers, floods …; pictures go to target/scenarios
	$(CARGO) build --quiet --release --locked --package gateway --bin gateway --package loadtest --bin loadtest
	"$${CARGO_TARGET_DIR:-target}/release/loadtest" scenario all --picture target/scenarios

.PHONY: bench
bench: setup ## Run the micro-benchmarks
	$(CARGO) bench --workspace

.PHONY: instructions
instructions: ## Count instructions under Valgrind beside docs/instructions.txt; fails when a case has grown
	@scripts/instructions

.PHONY: compare
compare: setup ## Measure the gateway beside nginx, HAProxy, Envoy, Caddy and bare Pingora, into docs/performance.md
	@scripts/compare

.PHONY: tidy
tidy: ## Remove what runs leave behind (state, development certificates), not what was built
	rm -rf state
	rm -f certs/ca.pem certs/ca.key certs/cert.pem certs/key.pem

.PHONY: clean
clean: tidy ## tidy, and remove what was built
	$(CARGO) clean

.PHONY: setup
setup: ## Install the system packages that building and testing need
	@scripts/setup
