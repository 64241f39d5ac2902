# `make help` lists what there is. The target folder is CARGO_TARGET_DIR, or target/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
PROGRAMS := -p api-gateway -p upload-worker -p cli -p dev-stack
DIESEL := $(TARGET)/tools/bin/diesel
MUTANTS := $(TARGET)/tools/bin/cargo-mutants
GENERATED := openapi.yaml crates/database/src/schema.rs

DEV_DIR ?= .dev
WORKERS ?= 1
export DEV_DIR WORKERS SOURCE

.PHONY: help demo dev bench microbench instructions torture neighbour mutants test check generate bootstrap \
  bootstrap-check bootstrap-count format

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: bootstrap ## upload a directory and check every object: SOURCE=/some/dir, ONCE=1 to end after the summary, PORT=
	cargo build --locked --release $(PROGRAMS)
	@exec $(TARGET)/release/dev-stack demo $(if $(filter-out 0,$(ONCE)),--once)

dev: bootstrap ## the stack in the foreground: WORKERS=n, DEV_DIR=.dev, PORT=, SOURCE_ROOTS=, RELEASE=1
	@cargo build $(if $(RELEASE),--release) $(PROGRAMS)
	@exec $(TARGET)/$(if $(RELEASE),release,debug)/dev-stack dev

torture: bootstrap ## everything fails while deliveries run, and an oracle judges: SEED=, ROUNDS=, MINUTES=, WINDOW=, JSON=, RELEASE=1
	cargo build --locked $(if $(RELEASE),--release) $(PROGRAMS) --features failpoints
	@exec $(TARGET)/$(if $(RELEASE),release,debug)/dev-stack torture $(if $(SEED),--seed $(SEED)) \
	  $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(WINDOW),--window $(WINDOW)) $(if $(JSON),--json $(JSON))

mutants: bootstrap-check $(MUTANTS) ## break the job protocol in one place at a time; a test must notice: ONLY=, KIND=guards|rust, RESUME=1, JSON=
	CARGO_MUTANTS=$(abspath $(MUTANTS)) .ci/mutants/run.py run $(if $(ONLY),--only '$(ONLY)') $(if $(KIND),--kind $(KIND)) \
	  $(if $(RESUME),--resume) $(if $(JSON),--json $(JSON))

neighbour: bootstrap ## how long ten files wait beside another company's million: FILES=, ROUNDS=, WORKERS=, JSON=, RELEASE=0
	cargo build --locked $(if $(filter-out 0,$(or $(RELEASE),1)),--release) $(PROGRAMS)
	@exec $(TARGET)/$(if $(filter-out 0,$(or $(RELEASE),1)),release,debug)/dev-stack neighbour --workers $(WORKERS) \
	  $(if $(FILES),--files $(FILES)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(JSON),--json $(JSON))

bench: bootstrap ## the service against other tools and against the least there is: SETS=A,B,C,D, ROUNDS=, PEERS=, SMALL=1, JSON=, MARKDOWN=
	cargo build --locked --release $(PROGRAMS) -p transfer --bins --example engine
	@exec $(TARGET)/release/dev-stack bench $(if $(SETS),--sets $(SETS)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(PEERS),--peers $(PEERS)) $(if $(FILES_D),--files-d $(FILES_D)) $(if $(filter-out 0,$(SMALL)),--small) \
	  --workers $(WORKERS) $(if $(DIR),--dir $(DIR)) $(if $(JSON),--json $(JSON)) $(if $(MARKDOWN),--markdown $(MARKDOWN))

microbench: bootstrap ## single steps by the clock: walk, read, checksum, sign, flush: FILTER=
	cargo bench --locked -p storage -p transfer -p database --bench micro $(if $(FILTER),-- '$(FILTER)')

instructions: bootstrap-count ## what a small file costs, in instructions and allocations, against what is recorded: ACCEPT=1
	.ci/instructions/run.py $(if $(filter-out 0,$(ACCEPT)),--accept)

test: bootstrap-check ## unit, integration and end-to-end tests
	cargo build --locked --workspace --bins --features failpoints
	.ci/tests

check: bootstrap-count ## what CI runs, in the same order
	.ci/step format cargo fmt --all --check
	.ci/step lints cargo clippy --locked --workspace --all-targets --features failpoints -- -D warnings
	.ci/step walls .ci/walls
	.ci/step licences .ci/licences
	.ci/step mutants .ci/mutants/run.py check
	.ci/step generated .ci/unchanged-by-generate $(GENERATED)
	.ci/step failpoints .ci/no-failpoints
	.ci/step instructions $(MAKE) --no-print-directory instructions
	.ci/step tests $(MAKE) --no-print-directory test
	.ci/step torture $(MAKE) --no-print-directory torture SEED=1 MINUTES=2

generate: bootstrap-check $(DIESEL) ## write openapi.yaml and the database's schema.rs again
	cargo build --locked -p api-gateway -p dev-stack
	$(TARGET)/debug/api-gateway openapi > $(TARGET)/openapi.yaml
	$(TARGET)/debug/dev-stack with-database -- $(DIESEL) print-schema > $(TARGET)/schema.rs
	cp $(TARGET)/openapi.yaml openapi.yaml
	cp $(TARGET)/schema.rs crates/database/src/schema.rs

$(DIESEL):
	cargo install diesel_cli --version 2.3.14 --locked --debug --no-default-features --features postgres \
	  --root $(TARGET)/tools --target-dir $(TARGET)/tools/build

$(MUTANTS):
	cargo install cargo-mutants --version 27.1.0 --locked --debug --root $(TARGET)/tools --target-dir $(TARGET)/tools/build

format: ## format the code
	cargo fmt --all

bootstrap: ## check the tools; install what Debian has, when that is allowed
	@.ci/bootstrap run

bootstrap-check:
	@.ci/bootstrap run check

bootstrap-count:
	@.ci/bootstrap run check count
