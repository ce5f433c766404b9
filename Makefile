# Nervemask. `make demo` and `make test` need Python 3.11 to 3.13, git and make; nothing else.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 3000
MLFLOW_PORT ?= 5000

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Nobody is told that you run this.
export BENTOML_DO_NOT_TRACK := True
export MLFLOW_DISABLE_TELEMETRY := true
# Its runners of jobs are for language models, and take 2 GB.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export DVC_NO_ANALYTICS := 1
export TF_CPP_MIN_LOG_LEVEL := 2

.PHONY: help setup lock demo test bench fuzz soak kills lint audit sbom licences seeds serve ui

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/ready  ## the environment in .venv, from the locked requirements

# Compiled here, once: where Python may not write, it would compile everything at every start.
.venv/ready: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	VIRTUAL_ENV=$(CURDIR)/.venv .venv/bin/uv pip sync --quiet --compile-bytecode --require-hashes requirements.txt
	touch $@

lock:  ## write the locked requirements anew
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
	  --extra training --extra dev pyproject.toml -o requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  -c requirements.txt pyproject.toml -o deploy/requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  -c requirements.txt --extra gpu pyproject.toml -o deploy/requirements-gpu.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  -c requirements.txt --extra training pyproject.toml -o deploy/requirements-training.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
	  tests/contract/requirements.in -o tests/contract/requirements.txt

demo: setup  ## the main job from nothing: train on the phantom, serve, ask for a mask
	python -m training.demo

test: setup .venv/contract/ready  ## the whole test suite, two tests at a time where they bear it
	python -m pytest -m alone
	python -m pytest -m "not alone" -n 2 --dist loadfile

.venv/contract/ready: tests/contract/requirements.txt .venv/ready
	uv venv --quiet --allow-existing --python .venv/bin/python .venv/contract
	VIRTUAL_ENV=$(CURDIR)/.venv/contract uv pip sync --quiet --compile-bytecode --require-hashes $<
	touch $@

bench: setup  ## the measurements, side by side with their peers, into benchmarks/report.md (needs the champion)
	python -m benchmarks

fuzz: setup  ## 100,000 mutated uploads against a running server, into benchmarks/hostile.md (needs the champion)
	python -m benchmarks.hostile $(if $(UPLOADS),--uploads $(UPLOADS))
	python -m benchmarks.guided $(if $(SECONDS),--seconds $(SECONDS))

soak: setup  ## 30 minutes (MINUTES) at 80 % of capacity with faults thrown in, into benchmarks/soak.md (needs the champion)
	python -m benchmarks.soak $(if $(MINUTES),--minutes $(MINUTES))

kills: setup  ## `dvc repro` killed 200 times (KILLS) at random moments, into benchmarks/kills.md (needs the champion)
	python -m benchmarks.kills $(if $(KILLS),--kills $(KILLS))

lint: setup  ## ruff, types, import contracts
	ruff check .
	ruff format --check .
	mypy service training benchmarks
	lint-imports

# Of what the service ships, in the versions that ship.
LICENCES := Apache;MIT;BSD;0BSD;PSF;Python Software Foundation;MPL 2.0;Mozilla Public License 2.0;ISC;Zlib;CC0

audit: setup  ## known vulnerabilities of what the service ships; fails also where the advisories are out of reach
	uv tool run --quiet pip-audit==2.10.1 --strict --disable-pip --require-hashes -r deploy/requirements.txt || \
	  { echo "audit: not passed. 'Not found' or no connection: the advisories are out of reach here," \
	    "and nothing was audited; run it where PyPI's own host is reached." >&2; exit 1; }

sbom: setup  ## what the service ships as CycloneDX, into reports/sbom.json
	mkdir -p reports
	uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements deploy/requirements.txt -o reports/sbom.json

licences: .venv/ships/ready  ## licences of what the service ships, into docs/licences.md; fails on others than LICENCES
	uv tool run --quiet pip-licenses==5.5.5 --python .venv/ships/bin/python --from=mixed --with-urls --format=markdown \
	  --allow-only="$(LICENCES)" --partial-match --output-file docs/licences.md

.venv/ships/ready: deploy/requirements.txt .venv/ready
	uv venv --quiet --allow-existing --python .venv/bin/python .venv/ships
	VIRTUAL_ENV=$(CURDIR)/.venv/ships uv pip sync --quiet --require-hashes $<
	touch $@

seeds: setup  ## the digits' nets with two more seeds, into docs/digits-seeds.csv (an hour)
	python -m training.digits.seeds

serve: setup  ## the champion on port 3000 (HOST, PORT)
	python -m service --host $(HOST) --port $(PORT)

ui: setup  ## the MLflow UI on port 5000 (MLFLOW_PORT)
	mlflow ui --backend-store-uri sqlite:///mlflow.db --port $(MLFLOW_PORT)
