# `make demo` and `make test` need only Python 3.11 to 3.13, git, make and access to PyPI or a mirror.

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

.PHONY: help demo serve ui setup check test lint lock bench fuzz soak attacks kills archive seeds pin audit sbom licences

help:  ## show this list
	@awk -F ':.*## ' '/^##@/ {print "\n" substr($$0, 5)} /^[a-z]+:.*## / {printf "  %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

##@ Try

demo: setup  ## train on simulated frames, serve the champion, request masks
	python -m training.demo

serve: setup  ## serve the champion on port 3000 (HOST, PORT)
	python -m service --host $(HOST) --port $(PORT)

ui: setup  ## show the MLflow runs on port 5000 (MLFLOW_PORT)
	python -m training.workspace.local_mlflow_store
	mlflow ui --backend-store-uri sqlite:///mlflow.db --port $(MLFLOW_PORT)

##@ Develop

setup: .venv/ready  ## install the locked requirements into .venv (needs PyPI or a mirror)

# A virtual environment holds its own path: in a moved or copied project it is installed again.
ifneq ($(shell cat .venv/ready 2>/dev/null),$(CURDIR))
.PHONY: .venv/ready
endif

# Bytecode is compiled once here: in a read-only folder Python would compile everything at every start.
.venv/ready: requirements.txt
	if [ "$$(cat $@ 2>/dev/null)" != "$(CURDIR)" ]; then $(PYTHON) -m venv --clear .venv; fi
	sed -n '/^uv==/,/[^\\]$$/p' requirements.txt > .venv/uv.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
	VIRTUAL_ENV="$(CURDIR)/.venv" .venv/bin/uv pip sync --quiet --compile-bytecode --require-hashes requirements.txt
	echo "$(CURDIR)" > $@

check: lint  ## quick check: lint, types and unit tests
	python -m pytest -q -m "not (serial or server or browser or training or slow)" -n 2 --dist loadfile

test: setup .venv/contract/ready  ## run the whole test suite
	python -m pytest -m serial
	python -m pytest -m "not serial" -n 4 --dist loadfile --no-loadscope-reorder  # many tests wait for a server

.venv/contract/ready: tests/contract/requirements.txt .venv/ready
	uv venv --quiet --allow-existing --python .venv/bin/python .venv/contract
	VIRTUAL_ENV="$(CURDIR)/.venv/contract" uv pip sync --quiet --compile-bytecode --require-hashes $<
	touch $@

lint: setup  ## run ruff, mypy and the import contracts
	ruff check .
	ruff format --check .
	mypy service training benchmarks
	lint-imports

lock:  ## update the locked requirements
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
	  --extra training --extra cluster --extra dev pyproject.toml -o requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  -c requirements.txt pyproject.toml -o deploy/requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  -c requirements.txt --extra gpu pyproject.toml -o deploy/requirements-gpu.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  -c requirements.txt --extra training --extra cluster pyproject.toml -o deploy/requirements-training.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
	  tests/contract/requirements.in -o tests/contract/requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
	  deploy/requirements-tools.in -o deploy/requirements-tools.txt

##@ Measure (all but seeds need a champion: make demo)

bench: setup  ## compare speed with MLflow's server and model.predict: benchmarks/report.md
	python -m benchmarks

fuzz: setup  ## mutated uploads (UPLOADS), decoders and HTTP framing (SECONDS): benchmarks/upload_fuzz.md, framing_fuzz.md
	python -m benchmarks.upload_fuzz $(if $(UPLOADS),--uploads $(UPLOADS))
	python -m benchmarks.coverage_fuzz $(if $(SECONDS),--seconds $(SECONDS))
	python -m benchmarks.framing_fuzz $(if $(SECONDS),--seconds $(SECONDS))

soak: setup  ## 30 minutes (MINUTES) of load with injected faults: benchmarks/soak.md
	python -m benchmarks.soak $(if $(MINUTES),--minutes $(MINUTES))
	python -m benchmarks.memory_limits $(if $(SECONDS),--seconds $(SECONDS))
	python -m benchmarks.fairness

attacks: setup  ## 1,000 hostile connections without a key for 3 minutes (ATTACK_SECONDS): benchmarks/hostile_clients.md
	python -m benchmarks.hostile_clients $(if $(ATTACK_SECONDS),--seconds $(ATTACK_SECONDS))

kills: setup  ## kill `dvc repro` and the service 200 times (KILLS): benchmarks/pipeline_kills.md, service_kills.md
	python -m benchmarks.pipeline_kills $(if $(KILLS),--kills $(KILLS))
	python -m benchmarks.service_kills $(if $(KILLS),--faults $(KILLS))

archive: setup  ## segment 20,000 frames (FRAMES) with Ray; kill nodes and drivers (KILLS): benchmarks/archive.md
	python -m benchmarks.archive $(if $(FRAMES),--frames $(FRAMES)) $(if $(KILLS),--kills $(KILLS))

seeds: setup  ## train each digits network with seeds 2 and 3 (an hour): docs/digits-seeds.csv
	python -m training.digits.seeds

##@ Release

# Allowed licences of the shipped packages.
LICENCES := Apache;MIT;BSD;0BSD;PSF;Python Software Foundation;MPL 2.0;Mozilla Public License 2.0;ISC;Zlib;CC0

pin:  ## write the digests of the container images into deploy/ (needs skopeo and the registry)
	$(PYTHON) deploy/pin_images.py

audit: .venv/tools/ready  ## look for known vulnerabilities of the shipped packages (needs internet access)
	.venv/tools/bin/pip-audit --strict --disable-pip --require-hashes -r deploy/requirements.txt || \
	  { echo "audit: failed. 'Not found' or no connection means that the advisories are not reachable from here" \
	    "and nothing was audited. Run it where PyPI is reachable." >&2; exit 1; }

sbom: .venv/tools/ready  ## write the bill of materials (CycloneDX) of the service: reports/sbom.json
	mkdir -p reports
	.venv/tools/bin/cyclonedx-py requirements deploy/requirements.txt -o reports/sbom.json

licences: .venv/ships/ready .venv/tools/ready  ## list the licences of the shipped packages in docs/licences.md; fail if one is not in LICENCES
	.venv/tools/bin/pip-licenses --python .venv/ships/bin/python --from=mixed --with-urls --format=markdown \
	  --allow-only="$(LICENCES)" --partial-match --output-file docs/licences.md
	sed -i '1i # Licences of the shipped packages\n\n`make licences` writes this list.\n' docs/licences.md

.venv/ships/ready: deploy/requirements.txt .venv/ready
	uv venv --quiet --allow-existing --python .venv/bin/python .venv/ships
	VIRTUAL_ENV="$(CURDIR)/.venv/ships" uv pip sync --quiet --require-hashes $<
	touch $@

.venv/tools/ready: deploy/requirements-tools.txt .venv/ready
	uv venv --quiet --allow-existing --python .venv/bin/python .venv/tools
	VIRTUAL_ENV="$(CURDIR)/.venv/tools" uv pip sync --quiet --require-hashes $<
	touch $@
