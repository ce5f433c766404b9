# `make demo` and `make test` need only Python 3.11 to 3.13, git and make.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 3000
MLFLOW_PORT ?= 5000

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Turn telemetry off.
export BENTOML_DO_NOT_TRACK := True
export MLFLOW_DISABLE_TELEMETRY := true
# MLflow's job runners take 2 GB and serve only language models.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export DVC_NO_ANALYTICS := 1
export TF_CPP_MIN_LOG_LEVEL := 2

.PHONY: help setup lock demo test check bench fuzz soak kills lint audit sbom licences seeds serve ui

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/ready  ## make the environment in .venv from the locked requirements

# Bytecode is compiled once here: in a read-only folder Python would compile everything at every start.
.venv/ready: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	VIRTUAL_ENV=$(CURDIR)/.venv .venv/bin/uv pip sync --quiet --compile-bytecode --require-hashes requirements.txt
	touch $@

lock:  ## update the locked requirements
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

demo: setup  ## train on simulated frames, serve the champion, request masks
	python -m training.demo

test: setup .venv/contract/ready  ## run the whole test suite
	python -m pytest -m serial
	python -m pytest -m "not serial" -n 2 --dist loadfile --no-loadscope-reorder

check: lint  ## lint, types and unit tests, in at most 90 seconds on 2 cores
	python -m pytest -q -m "not (serial or server or browser or training or slow)" -n 2 --dist loadfile

.venv/contract/ready: tests/contract/requirements.txt .venv/ready
	uv venv --quiet --allow-existing --python .venv/bin/python .venv/contract
	VIRTUAL_ENV=$(CURDIR)/.venv/contract uv pip sync --quiet --compile-bytecode --require-hashes $<
	touch $@

bench: setup  ## measure speed beside the peers, into benchmarks/report.md (needs a champion)
	python -m benchmarks

fuzz: setup  ## send 100,000 mutated uploads to a server, into benchmarks/upload_fuzz.md (needs a champion)
	python -m benchmarks.upload_fuzz $(if $(UPLOADS),--uploads $(UPLOADS))
	python -m benchmarks.coverage_fuzz $(if $(SECONDS),--seconds $(SECONDS))

soak: setup  ## run 30 minutes (MINUTES) at 80 % of capacity with injected faults, into benchmarks/soak.md (needs a champion)
	python -m benchmarks.soak $(if $(MINUTES),--minutes $(MINUTES))

kills: setup  ## kill `dvc repro` 200 times (KILLS) at random moments, into benchmarks/pipeline_kills.md (needs a champion)
	python -m benchmarks.pipeline_kills $(if $(KILLS),--kills $(KILLS))

lint: setup  ## run ruff, mypy and the import contracts
	ruff check .
	ruff format --check .
	mypy service training benchmarks
	lint-imports

# Allowed licences of the shipped packages.
LICENCES := Apache;MIT;BSD;0BSD;PSF;Python Software Foundation;MPL 2.0;Mozilla Public License 2.0;ISC;Zlib;CC0

audit: setup  ## look for known vulnerabilities of the shipped packages; also fails without access to the advisories
	uv tool run --quiet pip-audit==2.10.1 --strict --disable-pip --require-hashes -r deploy/requirements.txt || \
	  { echo "audit: failed. 'Not found' or no connection means that the advisories are not reachable from here" \
	    "and nothing was audited. Run it where PyPI is reachable." >&2; exit 1; }

sbom: setup  ## write the bill of materials (CycloneDX) of the service to reports/sbom.json
	mkdir -p reports
	uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements deploy/requirements.txt -o reports/sbom.json

licences: .venv/ships/ready  ## list the licences of the shipped packages in docs/licences.md; fail on others than LICENCES
	uv tool run --quiet pip-licenses==5.5.5 --python .venv/ships/bin/python --from=mixed --with-urls --format=markdown \
	  --allow-only="$(LICENCES)" --partial-match --output-file docs/licences.md

.venv/ships/ready: deploy/requirements.txt .venv/ready
	uv venv --quiet --allow-existing --python .venv/bin/python .venv/ships
	VIRTUAL_ENV=$(CURDIR)/.venv/ships uv pip sync --quiet --require-hashes $<
	touch $@

seeds: setup  ## train the digits' networks with two more seeds, into docs/digits-seeds.csv (an hour)
	python -m training.digits.seeds

serve: setup  ## serve the champion on port 3000 (HOST, PORT)
	python -m service --host $(HOST) --port $(PORT)

ui: setup  ## start the MLflow UI on port 5000 (MLFLOW_PORT)
	mlflow ui --backend-store-uri sqlite:///mlflow.db --port $(MLFLOW_PORT)
