# Breakwater. Thin: each target says what it does and calls what does it.
SHELL := /bin/sh
GO    ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
DATA  ?=

.DEFAULT_GOAL := help
.PHONY: help run build build-yara test lint generate check-generated kernel-test bench demo attack clean arm64

help: ## what can be made
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r a b; do printf '  make %-16s %s\n' "$$a" "$$b"; done

build: ## the binary, bin/breakwater
	@echo "building bin/breakwater" >&2
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/breakwater ./cmd/breakwater

build-yara: ## the binary with YARA, bin/breakwater-yara: links libyara, so it is not static
	@scripts/need.sh yara
	@CGO_ENABLED=1 $(GO) build -trimpath -tags yara -ldflags '$(LDFLAGS)' -o bin/breakwater-yara ./cmd/breakwater

arm64: ## the binary for arm64, bin/breakwater-arm64
	@CGO_ENABLED=0 GOARCH=arm64 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/breakwater-arm64 ./cmd/breakwater

run: ## install what is missing, then guard this host: server and agent in the foreground
	@scripts/need.sh run
	@scripts/engine.sh
	@$(MAKE) --no-print-directory build
	@bin/breakwater up $(if $(DATA),--data $(DATA))

test: ## install what the tests need and run all of them against real components
	@scripts/test.sh

lint: ## static checks, each with its reason in .golangci.yml
	@cd tools && $(GO) build -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@bin/golangci-lint run ./...
	@shellcheck scripts/*.sh .ci/run

generate: ## regenerate the eBPF objects and everything else that is generated
	@scripts/need.sh generate
	@$(GO) generate ./...

check-generated: generate ## fail when the committed generated code is not what the sources give
	@git diff --exit-code --stat -- '*_bpfel.go' '*_bpfel.o' '*.gen.*' || { echo "generated code differs from its sources: run 'make generate' and commit" >&2; exit 1; }

kernel-test: ## prevention by BPF LSM in guest kernels 6.1 and 6.12
	@scripts/need.sh kernel
	@$(GO) run ./internal/testenv/kernel/cmd

bench: ## measure speed and memory, side by side
	@scripts/bench.sh

demo: ## the story in one terminal: refuse, fix, allow, attack, and what came of it
	@scripts/need.sh run demo
	@scripts/engine.sh
	@$(MAKE) --no-print-directory build
	@$(GO) run ./demo $(DEMO_ARGS)

attack: ## what intruders do in containers, each with a witness of its harm, and the table of what came of it
	@scripts/need.sh run demo
	@scripts/engine.sh
	@$(MAKE) --no-print-directory build
	@$(GO) run ./attack $(ATTACK_ARGS)

clean: ## remove what was built
	@rm -rf bin dist
