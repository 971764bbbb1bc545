# Tasks of the template repository. A generated project has a Makefile of its own, in template/.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help new test lint format soak docs release hooks clean

PYTHON ?= python3
BIN := .venv/bin
# load.py runs in a Linux container.
WINDOWS := $(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 --exclude operations/load.py

# The shell gets these as environment variables and interprets nothing in them.
$(foreach name,ANSWERS ARGS DEST LAYER PROJECT DURATION VERSION,$(if $(value $(name)),\
  $(eval override $(name) := $$(value $(name)))$(eval export $(name))))

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

new: .venv/.copier ## start a project: DEST=../my-model [ANSWERS=file.yml] [ARGS="--data estimator=linear"]
	@[ -n "$$DEST" ] || { echo 'error: say where: make new DEST=../my-model' >&2; exit 1; }
	@$(BIN)/python -m tools.new $${ANSWERS:+"--answers=$$ANSWERS"} $${ARGS:+"--args=$$ARGS"} -- "$$DEST"

test: .venv/.ready ## run all tests, or one layer: LAYER=tabserve|questions|render|project|image|cluster|update
	@$(BIN)/pytest "tests/$$LAYER"

lint: .venv/.ready ## check style and types, also of the template's files in place
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/ruff check --no-cache --config tools/windows.toml template/src template/tests
	@$(WINDOWS) template/src/tabserve
	@PYTHONPATH=template/src $(BIN)/lint-imports --no-cache
	@$(BIN)/yamllint --strict .
	@$(BIN)/python tools/lint_template.py

format: .venv/.ready ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/ruff format --no-cache template

soak: .venv/.ready ## hostile traffic at a deployed project: PROJECT=../my-model [DURATION=600]
	@[ -f "$$PROJECT/k8s/service.yaml" ] || { echo 'error: name a deployed project: make soak PROJECT=../my-model' >&2; exit 1; }
	@$(BIN)/python -m tools.soak "$$PROJECT" "$${DURATION:-600}"

docs: .venv/.ready ## write docs/options.md and the quoted output in the docs again
	@$(BIN)/python tools/write_docs.py

release: .venv/.ready ## check, tag and list a release: VERSION=1.2.0
	@$(BIN)/python -m tools.releases $${VERSION:+"$$VERSION"}

hooks: ## render the template before each commit
	@git config core.hooksPath tools/hooks

clean: ## remove what was made
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

# Copier alone is enough to start a project; tests and checks need the rest.
.venv/.copier: constraints.txt
	@echo 'installing copier into .venv'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt copier
	@touch $@

.venv/.ready: .venv/.copier pyproject.toml
	@echo 'installing test dependencies into .venv'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group dev
	@touch $@
