# Thin names for the scripts; CMake does the work (CMakePresets.json).
.DEFAULT_GOAL := build
JOBS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
PREFIX ?= /usr/local

.PHONY: help setup build demo test test-full bench-peers bench-compare docs format install clean

help:  ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup:
	@scripts/bootstrap.sh

build: setup  ## set up and build build/bin/metal-candle (the default)
	@cmake --preset release --log-level=WARNING
	@cmake --build --preset release --parallel $(JOBS) --target program

demo: build  ## set up, build, stream an answer from SmolLM2-135M-Instruct and train an adapter
	@cmake --build --preset release --parallel $(JOBS) --target train_demo
	@scripts/demo.sh

test: setup  ## set up, build and run every test that needs neither torch nor a network peer
	@JOBS=$(JOBS) scripts/test.sh

test-full:  ## also sanitizers, coverage, longer fuzzing, live oracles, formatting, lint, documentation
	@JOBS=$(JOBS) scripts/test_full.sh

bench-peers: build  ## build the peers (llama.cpp, candle, mlx-lm, transformers), compare, write docs/benchmarks.md
	@JOBS=$(JOBS) scripts/bench_peers/setup.sh $(BENCH_SETUP)
	@python3 scripts/bench_peers/run.py $(BENCH)

bench-compare: build  ## this tree's speed against another commit's: BASE=<ref>, BENCH="flags of metal-candle bench"
	@BASE=$(BASE) JOBS=$(JOBS) scripts/bench_compare.sh $(BENCH)

docs:  ## the API reference, in build/docs/html
	@scripts/bootstrap.sh --full
	@scripts/docs.sh

format:  ## clang-format all C++
	@git ls-files '*.h' '*.cpp' | xargs clang-format-14 -i

install: build  ## install into PREFIX (default /usr/local)
	@cmake --build --preset release --parallel $(JOBS) --target metal_candle
	@cmake --install build --prefix "$(PREFIX)"

clean:  ## remove what was built, keep what was downloaded
	@rm -rf build build-debug build-asan build-tsan build-coverage build-fuzz
