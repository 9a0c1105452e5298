# `make help` says what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# What `make fuzz` calls its target; everything else calls the folder of what is built so.
TARGET_OF_FUZZ := $(if $(filter command line,$(origin TARGET)),$(TARGET))
override TARGET := $(or $(CARGO_TARGET_DIR),target)
# Every cargo call takes the whole workspace, and builds that precede tests name a test: otherwise cargo
# would choose other features for shared crates and build half of them again.
WORKSPACE := --workspace
# The demo shows what happens, not how fast: it runs what the tests run, built in half the time of a release.
BUILD := $(CARGO) build $(WORKSPACE) --bins --test bed
# The test bed makes network namespaces, and loading BPF programs needs root too.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo "sudo -E")
HOST := $(shell rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
TEST := $(if $(AS_ROOT),CARGO_TARGET_$(HOST)_RUNNER="$(AS_ROOT)") $(CARGO) test $(WORKSPACE)
# The simulation and what was fuzzed need no namespaces.
END_TO_END := $(filter-out simulation fuzz,$(basename $(notdir $(wildcard tests/tests/*.rs))))
INTEGRATION := simulation fuzz $(basename $(notdir $(wildcard bpf/tests/*.rs dataplane/tests/*.rs control/tests/*.rs)))
# Not the whole workspace: a release of the dataplane alone is built in a quarter of the time.
COUNT := $(CARGO) bench --package samepath-benches --no-default-features --bench burst
LOG := $(TARGET)/test.log
# Benches in namespaces, and what they are told: `make bench-veth ARGS="--reps 1 --flows 1000"`.
RIGGED := veth asymmetry newflows memory failover
ARGS ?=

.PHONY: help build test test-build test-services test-captures test-vm lint unit end-to-end instructions simulate fuzz demo bench bench-build bench-burst bench-micro \
    bench-table $(RIGGED:%=bench-%) benchmarks-doc clean deb test-deb count-build lint-aside \
    packages-build packages-test packages-services packages-bench packages-deb packages-vm

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: packages-build ## Release build of everything (target/release/samepath)
	$(BUILD) --release

deb: packages-deb build ## Debian package with unit, man pages, completions, docs: target/deb/samepath_VERSION_ARCH.deb
	@control/packaging/deb/build.sh $(TARGET)

test-deb: deb ## Installs that package into a fresh Debian 12 (debootstrap) and tries it there
	$(AS_ROOT) control/packaging/deb/try.sh "$$(ls -t $(TARGET)/deb/samepath_*.deb | head -n 1)" $(TARGET)/deb

demo: packages-test ## The main job on real packets, step by step; last line PASS or FAIL
	$(BUILD)
	$(AS_ROOT) env SAMEPATH_BIN=$(TARGET)/debug/samepath $(TARGET)/debug/samepath-demo

# What is compiled for lints and for counting instructions takes the processor time that tests leave while they run one
# after the other or wait for packets (SCHED_IDLE: it gives way at once), in a folder of its own: cargo locks the one it
# builds in.
ASIDE := chrt --idle 0 $(MAKE) --no-print-directory --keep-going
MAIN := $(MAKE) --no-print-directory
test: packages-test ## Everything: format, lints, docs, unit tests, end-to-end tests
	@mkdir -p $(TARGET); : > $(LOG); : > $(LOG).lasting
	@outcome=0; $(MAIN) test-build || outcome=$$?; \
	$(ASIDE) count-build lint-aside > $(LOG).aside 2>&1 & aside=$$!; \
	$(MAIN) unit || outcome=$$?; \
	$(MAIN) end-to-end || outcome=$$?; \
	wait $$aside || outcome=$$?; cat $(LOG).aside; \
	$(MAIN) instructions || outcome=$$?; \
	tests/totals.sh $(LOG) $(LOG).lasting; exit $$outcome

lint: packages-build ## cargo fmt, clippy, doc: no warnings
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(WORKSPACE) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(WORKSPACE) --no-deps

UNIT := --lib --bins $(INTEGRATION:%=--test %)
unit: packages-build ## Tests without packets on a wire
	$(TEST) $(UNIT) --no-fail-fast 2>&1 | tee -a $(LOG)
	$(TEST) --doc 2>&1 | tee -a $(LOG)

test-build: packages-test
	$(TEST) $(UNIT) $(END_TO_END:%=--test %) --no-run

# The same build as the unit tests: a second one, for release, would double the time this takes.
# These tests wait for packets most of the time: meanwhile those that take longest run beside the others.
LASTING := failover membership queues misuse paths
RUN_END_TO_END = SAMEPATH_BIN=$(abspath $(TARGET))/debug/samepath \
    $(TEST) $(1:%=--test %) --no-fail-fast -- --test-threads=1 --nocapture 2>&1
end-to-end: packages-test ## Tests with real packets in network namespaces
	@mkdir -p $(TARGET)
	$(BUILD)
	$(TEST) $(END_TO_END:%=--test %) --no-run
	@( $(call RUN_END_TO_END,$(LASTING)) ) > $(LOG).lasting & lasting=$$!; \
	( $(call RUN_END_TO_END,$(filter-out $(LASTING),$(END_TO_END))) ) | tee -a $(LOG) || outcome=$$?; \
	wait $$lasting || outcome=$$?; cat $(LOG).lasting; exit $${outcome:-0}

# Some minutes: what must fail has to time out. `make test-services ARGS="--only haproxy --column with"`
test-services: packages-services ## Real proxies and inspectors over asymmetric paths, without and with samepath; fills docs/services.md
	$(BUILD)
	$(AS_ROOT) env SAMEPATH_BIN=$(abspath $(TARGET))/debug/samepath $(TARGET)/debug/samepath-services --document $(ARGS)

# Some minutes. Rows go to target/bed/played-cluster/table.md.
test-captures: packages-test ## All captures split over two nodes, beside a plain Linux router
	$(BUILD)
	SAMEPATH_PLAYED=all $(call RUN_END_TO_END,played)

# Two to four minutes, and no root. Console, root and kernel are in target/vm.
test-vm: packages-vm ## Debian 12's stock kernel (6.1) in qemu: the real pktgen through two nodes, every packet accounted for
	$(BUILD)
	tests/vm/run.sh $(TARGET)/debug/samepath $(TARGET)/vm

count-build:
	$(COUNT) --no-run

lint-aside:
	CARGO_TARGET_DIR=$(abspath $(TARGET))/lint $(MAKE) --no-print-directory lint

instructions: packages-test ## Instructions per packet by role: at most 10 % above benches/instructions.json
	$(COUNT) -- --check $(abspath benches/instructions.json)

# The tests' own build: what it saves in building is more than a release would save in running.
SEEDS ?= 20000
simulate: packages-build ## The cluster from a seed: SEEDS=N plays N, SEED=n tells the story of one
	$(CARGO) build $(WORKSPACE) --bin samepath-simulate
	$(TARGET)/debug/samepath-simulate $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

# cargo-fuzz wants a nightly compiler's flags; RUSTC_BOOTSTRAP lets the stable one have them.
TARGETS_OF_FUZZ := $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs)))
SECONDS ?= 600
fuzz: packages-build ## Searches for bytes that break a promise: TARGET=packet|tunnel|worker|… SECONDS=600
	@[ -n "$(filter $(TARGET_OF_FUZZ),$(TARGETS_OF_FUZZ))" ] || { echo "make fuzz TARGET=…: one of $(TARGETS_OF_FUZZ)" >&2; exit 2; }
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz
	@mkdir -p $(abspath $(TARGET))/fuzz/found/$(TARGET_OF_FUZZ)
	cd tests/fuzz && RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$(abspath $(TARGET))/fuzz $(CARGO) fuzz run --fuzz-dir . \
	    -s none $(TARGET_OF_FUZZ) $(abspath $(TARGET))/fuzz/found/$(TARGET_OF_FUZZ) corpus/$(TARGET_OF_FUZZ) -- \
	    -max_total_time=$(SECONDS)

bench-burst: packages-test ## The whole worker over memory: instructions and Mpps by role, two workers
	$(CARGO) bench $(WORKSPACE) --bench burst

bench-micro: packages-build ## Micro benchmarks (criterion), CPU time of single steps
	$(CARGO) bench $(WORKSPACE) --bench tunnel_header --bench hand_off --bench director --bench parse --bench policy

# DPDK wants huge pages; what is reserved here is given back. Core 1: the first core has the interrupts.
bench-table: packages-bench ## Session table beside DPDK rte_hash and hashbrown: target/bench/table.json
	@mkdir -p $(TARGET)/bench
	$(CC) -O3 -march=native -Wall -Wextra $$(pkg-config --cflags libdpdk) -o $(TARGET)/bench/rte_hash \
	    benches/benches/table/rte_hash.c -Wl,--as-needed $$(pkg-config --libs libdpdk)
	$(CARGO) bench $(WORKSPACE) --bench table --no-run
	$(AS_ROOT) benches/benches/table/run.sh env SAMEPATH_RTE_HASH=$(abspath $(TARGET))/bench/rte_hash \
	    SAMEPATH_BENCH_DIR=$(abspath $(TARGET))/bench $(CARGO) bench $(WORKSPACE) --bench table

# Builds first and as whoever calls; only the bench itself runs as root.
bench-build: packages-bench packages-test
	$(BUILD) --release
	$(CARGO) bench $(WORKSPACE) --no-run $(RIGGED:%=--bench %)

define RUN_BENCH
	$(AS_ROOT) env SAMEPATH_BIN=$(abspath $(TARGET))/release/samepath PATH="$$PATH" \
	    $(CARGO) bench $(WORKSPACE) --bench $(@:bench-%=%) -- $(ARGS)
endef

bench-veth: bench-build ## End to end on one core beside kernel, conntrack, testpmd: target/bench/veth.json
	$(RUN_BENCH)

bench-asymmetry: bench-build ## What redirected packets cost: target/bench/asymmetry.json
	$(RUN_BENCH)

bench-newflows: bench-build ## New sessions and backups beside conntrackd: target/bench/newflows.json
	$(RUN_BENCH)

bench-memory: bench-build ## Bytes per session beside nf_conntrack: target/bench/memory.json
	$(RUN_BENCH)

bench-failover: bench-build ## What connections notice when nodes die, sleep, are cut off, restart, leave
	$(RUN_BENCH)

# One after the other, whatever -j says.
bench: ## All of them, in order; some two hours
	@for bench in table burst $(RIGGED); do $(MAKE) --no-print-directory bench-$$bench; done

benchmarks-doc: ## Tables and plots of docs/benchmarks.md from target/bench
	$(CARGO) bench $(WORKSPACE) --bench document

clean: ## Remove everything built
	$(CARGO) clean

packages-build:
	@tests/packages.sh build

packages-test:
	@tests/packages.sh test

packages-services:
	@tests/packages.sh services

packages-bench:
	@tests/packages.sh bench

packages-deb:
	@tests/packages.sh deb

packages-vm:
	@tests/packages.sh vm
