# Every command that a developer, a user or CI runs. `make` lists them.

CARGO ?= cargo
BIN := target/release/sprite-env
JOURNALS := $(CURDIR)/target/journals
DEMO_DIR ?= $(CURDIR)/target/demo

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build the release binaries sprite-env and spritectl
	$(CARGO) build --release --locked

.PHONY: release-all
release-all: release-linux-amd64 ## Build the archives that people download, into dist/

# One static file: it runs on any Linux, without a libc of the machine's.
MUSL := x86_64-unknown-linux-musl
.PHONY: static
static: ## Build the static binary (musl)
	@command -v musl-gcc >/dev/null || { echo "needs musl-gcc: install musl-tools" >&2; exit 1; }
	CC_x86_64_unknown_linux_musl=musl-gcc $(CARGO) build --profile static --locked --target $(MUSL) --bin sprite-env
	@ln -sf sprite-env target/$(MUSL)/static/spritectl

.PHONY: release-linux-amd64
release-linux-amd64: ## Build dist/sprite-env-linux-amd64.tar.gz, linked statically
	rustup target add $(MUSL)
	$(MAKE) --no-print-directory static
	@mkdir -p dist
	tar -C target/$(MUSL)/static -czf dist/sprite-env-linux-amd64.tar.gz sprite-env spritectl

.PHONY: release-linux-arm64
release-linux-arm64: ## Build dist/sprite-env-linux-arm64.tar.gz, on a machine of that kind
	@test "$$(uname -m)" = aarch64 || { echo "run this on a Linux machine with an arm64 processor" >&2; exit 1; }
	$(CARGO) build --release --locked
	@mkdir -p dist
	tar -C target/release -czf dist/sprite-env-linux-arm64.tar.gz sprite-env spritectl

.PHONY: release-darwin-amd64 release-darwin-arm64
release-darwin-amd64 release-darwin-arm64: ## Say why there is no sprite-env for macOS
	@echo "sprite-env is made of Linux: PID 1, subreapers, signalfd. Run it in a container." >&2; exit 1

.PHONY: run
run: build ## Build, and run the demo on config.example.json
	@token=$${SPRITE_HTTP_API_TOKEN:-$$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}; \
	dir=$${SPRITE_WRITE_DIR:-$(DEMO_DIR)}; \
	mkdir -p "$$dir"; \
	echo "API:   http://127.0.0.1:7778, page: http://127.0.0.1:7778/console"; \
	echo "token: $$token   (export SPRITE_HTTP_API_TOKEN=$$token in another terminal)"; \
	echo "data:  $$dir"; \
	SPRITE_HTTP_API_TOKEN=$$token SPRITE_WRITE_DIR=$$dir SPRITE_LOCAL_MODE=true \
	exec $(BIN) -config config.example.json

.PHONY: test
test: setup build ## Install what the tests need and run them all
	@$(MAKE) --no-print-directory static || echo "no static binary: no machine is booted with it"
	@rm -rf $(JOURNALS) && mkdir -p $(JOURNALS)
	SPRITE_TEST_JOURNALS=$(JOURNALS) $(CARGO) test --workspace --release --locked
	@$(BIN) replay --coverage --at-least 90 $(JOURNALS)/*
	$(MAKE) --no-print-directory mutants

.PHONY: setup
setup: ## Install what the tests need (Debian packages; can be run twice)
	tests/setup.sh

.PHONY: check
check: build ## Format, lints, purity, generated files up to date
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features --locked -- -D warnings
	$(MAKE) --no-print-directory pure
	tests/check-generated.sh

.PHONY: model
model: ## Check all interleavings of the machines, and say how many there are
	$(CARGO) test --release --locked -p machines --test model -- --nocapture

.PHONY: mutants
mutants: ## Break the charts in every small way, and see that something notices each
	$(CARGO) test --release --locked -p machines --features mutants --test mutants -- --nocapture

.PHONY: coverage-arrows
coverage-arrows: build ## Run the integration tests, and say which arrows of the diagrams they took
	@rm -rf $(JOURNALS) && mkdir -p $(JOURNALS)
	SPRITE_TEST_JOURNALS=$(JOURNALS) $(CARGO) test --release --locked --test integration
	@$(BIN) replay --coverage --at-least 90 $(JOURNALS)/*

.PHONY: journals
journals: coverage-arrows ## Keep a few journals of the integration tests for the tests of the machines
	python3 machines/tests/pick_journals.py $(JOURNALS) machines/tests/journals

.PHONY: bench
bench: ## Measure, each against a limit or a peer in the same run
	benches/setup.sh
	@$(MAKE) --no-print-directory static || echo "no static binary: it is not measured"
	$(CARGO) bench --locked --bench machines
	$(CARGO) bench --locked --bench data_plane
	$(CARGO) bench --locked --bench init
	$(CARGO) bench --locked --bench checkpoint

.PHONY: pure
pure: ## Prove that the machines depend on nothing that could do I/O
	@$(CARGO) tree --locked -p machines -e normal --no-dedupe --prefix none --format '{lib}' \
	  | LC_ALL=C sort -u | grep . | diff machines/dependencies.txt - && echo "machines: pure"

.PHONY: generate
generate: build ## Write what is generated: the diagrams and the JSON Schema
	tests/check-generated.sh --write

.PHONY: install
install: build ## Install into PREFIX (default /usr/local)
	install -D -m 0755 $(BIN) $(DESTDIR)$(or $(PREFIX),/usr/local)/bin/sprite-env
	ln -sf sprite-env $(DESTDIR)$(or $(PREFIX),/usr/local)/bin/spritectl

.PHONY: clean
clean: ## Remove what was built
	$(CARGO) clean
