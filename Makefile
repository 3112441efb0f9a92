# `make demo` and `make test` do all set-up themselves: they need python 3.11 or later and a package index.

VENV = .venv
EXTRAS = train,tflite,test
BIN = $(VENV)/bin

.PHONY: help demo test test-slow mutants lint format grammar clean

help:
	@echo "make demo       train a small network on digits and compile it for the Edge TPU, in about a minute"
	@echo "make test       linter, type checker and the fast tests"
	@echo "make test-slow  the long suites too: fuzzing, the built wheel, training"
	@echo "make mutants    faults put into the sources one at a time: which the fast tests notice; SEED=1 draws others"
	@echo "make lint       linter and type checker only"
	@echo "make format     lay the sources out"
	@echo "make grammar    build the parse table anew after an edit of grammar/cnn.lark"
	@echo "make clean      remove the virtual environment and what was built"

$(VENV)/.installed: pyproject.toml constraints.txt .ci/venv
	@PYTHON="$(PYTHON)" sh .ci/venv $(VENV) $(EXTRAS)

demo: $(VENV)/.installed
	$(BIN)/cnnc demo

# How the fast tests' programs are compiled: soon rather than well, which is a third of the work. The slow suite has them
# compiled as users do.
QUICK = --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1

test: lint
	XLA_FLAGS="$$XLA_FLAGS $(QUICK)" $(BIN)/python -m pytest -q -n 2 -m "not slow"

test-slow: lint
	$(BIN)/python -m pytest -q -n 2

mutants: $(VENV)/.installed
	$(BIN)/python -m bench.mutants --seed $(or $(SEED),0)

lint: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

grammar: $(VENV)/.installed
	$(BIN)/python -c "from cnnc.language import parse_table; parse_table.write()"
	$(BIN)/cnnc fmt grammar/prelude.cnn specs/*.cnn

clean:
	rm -rf $(VENV) build dist cnnc.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
