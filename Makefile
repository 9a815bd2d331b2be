# Every verb sets up what it needs: Debian packages, node_modules, the scout, the demo image. What is built lies in build/,
# named by the hash of its inputs, and is built once.
# Programs of node_modules come first for everything that runs; make itself would not look there for its own commands.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
bin := node_modules/.bin

.PHONY: help setup build check test test-unit test-lab demo lab bench-swarm deb docs fmt clean

help:
	@echo 'make demo      deploys a Debian image to two virtual machines, from power-on to its SSH banner (KEEP=1 leaves it running)'
	@echo 'make test      checks and all tests, as CI runs them'
	@echo 'make check     format, lint, import law, types, dead code'
	@echo 'make test-unit tests beside the code     make test-lab  tests that boot machines'
	@echo 'make lab       a lab of virtual machines from lab/demo.yaml'
	@echo 'make deb       Debian packages in build/deb: the program, and the scout if it is built'
	@echo 'make bench-swarm ARGS="--nodes 16"   measures how an image reaches N nodes (ARGS=--help)'

setup: node_modules/.package-lock.json

node_modules/.package-lock.json: package.json package-lock.json .npmrc tools/packages.txt tools/install-modules.sh
	tools/install-packages.sh
	tools/install-modules.sh
	@touch $@

build: setup
	$(bin)/node scout/loaders.ts
	$(bin)/node scout/build.ts
	$(bin)/node lab/os-image/build.ts
	$(bin)/node lab/storage-tools.ts

check: setup
	$(bin)/biome check .
	$(bin)/tsc -p .
	$(bin)/oxlint --deny-warnings
	$(bin)/knip

test: check build
	$(bin)/vitest run

test-unit: setup
	$(bin)/vitest run --project unit

test-lab: build
	$(bin)/vitest run --project lab

demo: build
	$(bin)/node lab/demo.ts

lab: build
	$(bin)/node lab/lab.ts up lab/demo.yaml

# Quiet, because with --json its output is for programs.
bench-swarm: setup
	@$(bin)/node bench/swarm/bench.ts $(ARGS)

# Without a network, once `setup` has been: what `make build` has made goes into a package of its own.
deb: setup
	$(bin)/node packaging/build.ts

docs: setup
	$(bin)/node tools/generate-docs.ts

fmt: setup
	$(bin)/biome check --write .

clean:
	rm -rf build node_modules
