# Entry point for people and for CI. Needs python3 (3.11 or newer), make, git and the package registries.

.DEFAULT_GOAL := help
.SHELLFLAGS := -ec
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SYNC := UV_PROJECT_ENVIRONMENT=$(VENV) UV_PYTHON_DOWNLOADS=never $(BIN)/uv sync --frozen --python $(BIN)/python --group dev --extra aws --extra azure --extra demo --extra gcp --extra namespaces
WORKERS ?= 2
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/temporal-schema-migrator/tools
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/schema_migrator/__init__.py)
TEMPORAL_VERSION ?= 1.32.2
IMAGE ?= temporal-schema-migrator:$(VERSION)
SOURCE ?= https://git.example/temporal-schema-migrator
ARCH ?= $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,amd64)
CHART := charts/temporal-migrations

.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## Show the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 15

setup: $(VENV)/.stamp ## Create the virtual environment, with everything for tests and demo

$(VENV)/.stamp: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "$(PYTHON) is " + sys.version.split()[0] + ", expected 3.11 or newer; name another: make PYTHON=python3.12")'
	@test -x $(BIN)/python || { echo "Making the virtual environment $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@test -x $(BIN)/uv || { echo "Installing uv"; $(BIN)/python -m pip install --quiet --require-hashes --requirement tools/uv.txt; }
	@count=$$($(SYNC) --dry-run 2>&1 | sed -n 's/^Would install \([0-9]*\) .*/\1/p'); \
	  echo "Installing $${count:-0} packages that uv.lock pins (a minute or two the first time)"
	@$(SYNC) --quiet --compile-bytecode
	@touch $@

sources: setup ## Fetch the vendor's SQL of every pinned release into releases/
	@$(BIN)/python vendor/fetch.py

release-add: setup sources ## Add a release of Temporal: table, pins, files, what is new, and a comparison with its own tool (VERSION)
	@$(BIN)/python vendor/release_add.py $(VERSION)

crds: setup ## Fetch the resource definitions for checking the examples into crds/
	@$(BIN)/python vendor/crds.py

vendor-tools: setup ## Build the vendor's tool for the tests (minutes the first time, then cached in ~/.cache)
	@$(BIN)/python vendor/build_tool.py

demo: setup sources ## Show it working on a private PostgreSQL
	@$(BIN)/schema-migrator demo

APART := matrix or image or chart or e2e or fleet or temporal

test: setup sources vendor-tools ## Run the tests (eight minutes), at the end the longest of them
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --durations=25 -m 'not ($(APART))'

test-quick: setup sources ## Run the tests that need no server (half a minute)
	$(BIN)/pytest -n $(WORKERS) -m 'not ($(APART) or server or random)' tests/unit tests/harness

test-matrix: setup sources ## Run the other tests, and every release and every PostgreSQL (about two hours)
	$(BIN)/python vendor/build_tool.py --all
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --durations=25 -m matrix

durations: setup ## Rewrite how long each test takes, by which `make test` chooses (JUNIT, what pytest --junitxml wrote)
	PYTHONPATH=tests:vendor $(BIN)/python tools/durations.py $(JUNIT)

# The commit's time stands for all times of a build, so that two builds are equal.
COMMIT_TIME = $(shell git log -1 --format=%ct)
BUILD_ARGS = $(DOCKER_FLAGS) --build-arg TEMPORAL_VERSION=$(TEMPORAL_VERSION) --build-arg VERSION=$(VERSION) \
  --build-arg REVISION=$(shell git rev-parse HEAD) --build-arg SOURCE=$(SOURCE) \
  --build-arg CREATED=$(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd) \
  $(if $(CLOUDS),--build-arg CLOUDS=$(CLOUDS)) \
  $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg BASE_DIGEST=$(word 2,$(subst @, ,$(BASE_IMAGE))))

# With COMMIT_TIME, what makes a second build the same bits.
SAME_BITS = $(BUILD_ARGS) --provenance=false --sbom=false
SAME_OUTPUT = oci-mediatypes=true,rewrite-timestamp=true

image: ## Build both images, $(IMAGE) and $(IMAGE)-tools (IMAGE, TEMPORAL_VERSION, BASE_IMAGE, DOCKER_FLAGS; CLOUDS, for example aws,gcp, for SQL_AUTH)
	docker build $(BUILD_ARGS) --target slim --tag $(IMAGE) .
	docker build $(BUILD_ARGS) --target tools --tag $(IMAGE)-tools .

wheel: setup ## Build the wheel into dist/
	$(BIN)/python -m hatchling build --target wheel

# For `docker load`; layers and digests are those of the images that a release pushes.
image-archives: dist/images/slim-$(ARCH).tar dist/images/tools-$(ARCH).tar ## Build both images into dist/images/ (ARCH, BASE_IMAGE, DOCKER_FLAGS; needs BuildKit 0.13)

dist/images/%-$(ARCH).tar: FORCE
	@mkdir -p $(@D)
	SOURCE_DATE_EPOCH=$(COMMIT_TIME) docker buildx build $(NO_CACHE) $(SAME_BITS) --platform linux/$(ARCH) --target $* \
	  --output type=docker,dest=$@,name=$(IMAGE)$(if $(filter tools,$*),-tools),$(SAME_OUTPUT) .

FORCE:

bundle: wheel chart sbom image-archives ## Pack images, chart, wheels and SBOMs into one archive for a network without registries (BUNDLE, for example '--python 3.12'; CLOUDS)
	$(BIN)/python tools/bundle.py $(VERSION) $(COMMIT_TIME) --arch $(ARCH) $(if $(CLOUDS),--clouds $(CLOUDS)) $(BUNDLE)

verify-build: setup $(TOOLS)/helm ## Build everything that is released twice, from clean checkouts, and name the first difference (VERIFY, for example '--only wheel')
	HELM=$(TOOLS)/helm $(BIN)/python tools/verify_build.py $(VERIFY)

test-image: setup sources vendor-tools image $(TOOLS)/syft ## Build the images, compare them with their SBOMs, and run them against a PostgreSQL container
	SYFT=$(TOOLS)/syft SCHEMA_MIGRATOR_TEST_OURS=$(IMAGE) $(BIN)/pytest -m image tests/image

chart: setup $(TOOLS)/helm ## Check the chart and package it into dist/, the same bits for the same commit (SIGN_KEY, a key of GnuPG that signs it)
	for values in $(CHART)/ci/*.yaml; do $(TOOLS)/helm lint --quiet --strict --values $$values $(CHART) || exit; done
	HELM=$(TOOLS)/helm SOURCE_DATE_EPOCH=$(COMMIT_TIME) $(BIN)/python tools/chart_package.py $(CHART) dist $(if $(SIGN_KEY),--sign-key '$(SIGN_KEY)')

sbom: setup image $(TOOLS)/syft ## Build the images and write their SBOMs and the wheel's into dist/sbom (IMAGE)
	$(BIN)/python tools/sbom.py dist/sbom/wheel.cdx.json
	$(BIN)/python tools/sbom.py dist/sbom/image.cdx.json --image $(IMAGE) --syft $(TOOLS)/syft
	$(BIN)/python tools/sbom.py dist/sbom/image-tools.cdx.json --image $(IMAGE)-tools --syft $(TOOLS)/syft

licences: sbom ## Check the licences of all components and write docs/licences.md
	$(BIN)/python tools/licences.py dist/sbom/wheel.cdx.json dist/sbom/image.cdx.json dist/sbom/image-tools.cdx.json

test-chart: setup sources crds $(TOOLS)/helm ## Render chart and examples with helm, and check them against the schemas of their kinds and the program's settings
	HELM=$(TOOLS)/helm $(BIN)/pytest -m chart tests/chart

FLUX := SCHEMA_MIGRATOR_TEST_SOURCE_CONTROLLER=$(TOOLS)/source-controller SCHEMA_MIGRATOR_TEST_HELM_CONTROLLER=$(TOOLS)/helm-controller
test-e2e: setup sources crds $(TOOLS)/helm $(TOOLS)/source-controller $(TOOLS)/helm-controller ## Run the chart in the cluster of the current kubeconfig, which needs Argo CD (IMAGE, RESULTS, E2E)
	HELM=$(TOOLS)/helm $(FLUX) SCHEMA_MIGRATOR_TEST_OURS=$(IMAGE) $(BIN)/pytest -m e2e tests/e2e $(if $(RESULTS),--results $(RESULTS)) $(E2E)

# Go tools are modules that go.sum pins.
$(TOOLS)/%: tools/%/go.mod tools/%/go.sum | setup
	cd tools/$* && GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0 ../../$(BIN)/go build -o $@ tool

test-temporal: setup sources vendor-tools ## Run Temporal's own server, and workflows on it, on schemas of this program (minutes; the first run builds the server)
	$(BIN)/python vendor/build_tool.py --server 1.29.1
	$(BIN)/pytest -m temporal tests/temporal

lint: setup $(TOOLS)/actionlint ## Check style, types, layers, documents and workflows
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini
	$(BIN)/lint-imports
	$(BIN)/python tools/documents.py --check
	$(BIN)/python tools/references.py
	$(BIN)/python tools/prose.py documents tools messages source
	$(TOOLS)/actionlint -shellcheck= -pyflakes=
	$(BIN)/zizmor --quiet --offline --strict-collection --persona=auditor .github

docs: setup ## Write the generated parts of the documents
	$(BIN)/python tools/documents.py

format: setup ## Format the code
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

sweep: setup sources vendor-tools ## Stop the vendor's tool and this one at every statement, then migrate (an hour)
	PYTHONPATH=tests:vendor $(BIN)/python tools/kill_sweep.py $(SWEEP)

sweep-online: setup sources vendor-tools ## Disturb an online rewrite at every message, then run it again (many hours; it goes on where it was; SWEEP, for example '--every 8 --minutes 60')
	PYTHONPATH=tests:vendor $(BIN)/python tools/online_sweep.py $(SWEEP)

failovers: setup sources vendor-tools ## Let a standby take over during an online rewrite, then run it again (a quarter of an hour; FAILOVERS, for example '--minutes 5')
	PYTHONPATH=tests:vendor $(BIN)/python tools/failovers.py $(FAILOVERS)

situations: setup sources vendor-tools ## Let an online rewrite run where it could hurt the users of a server (five minutes; SITUATIONS, for example '--only standby'; needs root to mount a small disk)
	PYTHONPATH=tests:vendor $(BIN)/python tools/situations.py $(SITUATIONS)

schedules: setup sources ## Order an online rewrite's statements against writers' by many seeds, and plant faults (half an hour; SCHEDULES, for example '-n 500')
	PYTHONPATH=tests:vendor $(BIN)/python tools/schedules.py $(SCHEDULES)

mutants: setup sources $(VENV)/.mutation ## Change the pure modules a little, place by place, and run the unit tests on each change (half an hour; MUTANTS, for example '--only planning')
	PYTHONPATH=tests:vendor $(BIN)/python tools/mutants.py $(MUTANTS)

sabotages: setup sources vendor-tools ## Plant faults in the program, one by one, and run the tests that have to find them (an hour; SABOTAGES, for example '--only cutover')
	PYTHONPATH=tests:vendor $(BIN)/python tools/sabotages.py $(SABOTAGES)

# What one target alone needs: the plotting library for the benchmark's pictures, mutmut.
$(VENV)/.plots $(VENV)/.mutation: $(VENV)/.%: $(VENV)/.stamp
	UV_PROJECT_ENVIRONMENT=$(VENV) UV_PYTHON_DOWNLOADS=never $(BIN)/uv sync --frozen --quiet --inexact --python $(BIN)/python --only-group $*
	@touch $@

bench: setup sources vendor-tools $(VENV)/.plots ## Compare installations, and upgrades under load, with the vendor's tool (BENCH="--help")
	PYTHONPATH=tests:vendor $(BIN)/python tools/bench.py $(BENCH)

# Releases: docs/releasing.md has the order. What a workflow takes from outside stays in the environment, where neither
# make nor the shell reads it as code.
PLATFORMS ?= linux/amd64,linux/arm64

new-releases: setup ## Print the stable releases of Temporal that vendor/releases.txt lacks
	@$(BIN)/python vendor/new_releases.py

release-check: setup ## Check that a tag fits the package, the chart and CHANGELOG.md (TAG)
	@$(BIN)/python tools/release.py check "$$TAG"

release-notes: setup ## Write a release's notes from CHANGELOG.md into dist/notes.md (SOURCE, the repository's address, for its links)
	@mkdir -p dist
	@$(BIN)/python tools/release.py notes --source '$(SOURCE)/blob/v$(VERSION)' >dist/notes.md

sdist: setup ## Build the source distribution into dist/
	$(BIN)/python -m hatchling build --target sdist

base-image: ## Print the Dockerfile's base image with the digest that its registry has for it now
	@name=$$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile); \
	  digest=$$(docker buildx imagetools inspect "$$name" --format '{{.Manifest.Digest}}'); echo "$$name@$$digest"

publish-images: setup ## Build both images for all platforms and push them (REGISTRY, PLATFORMS, BASE_IMAGE, DOCKER_FLAGS)
	SOURCE_DATE_EPOCH=$(COMMIT_TIME) $(BIN)/python tools/publish.py images --registry "$$REGISTRY" --version $(VERSION) --platforms '$(PLATFORMS)' \
	  --flags='$(SAME_BITS)' --output-options '$(SAME_OUTPUT)'

publish-chart: setup $(TOOLS)/helm ## Push the chart that `make chart` packaged (REGISTRY)
	HELM=$(TOOLS)/helm $(BIN)/python tools/publish.py chart --registry "$$REGISTRY" --version $(VERSION)

checksums: ## Write dist/SHA256SUMS over the files that a release has
	@cd dist; { sha256sum *.whl *.tar.gz *.tgz; (cd sbom; sha256sum *.json); } >SHA256SUMS.part; mv SHA256SUMS.part SHA256SUMS

sign: setup $(TOOLS)/cosign ## Sign what was published, with the SBOMs and the checksums (COSIGN_FLAGS, for example '--key cosign.key')
	COSIGN=$(TOOLS)/cosign COSIGN_FLAGS='$(COSIGN_FLAGS)' $(BIN)/python tools/publish.py sign

scan: $(TOOLS)/grype ## Look for vulnerabilities in an image that a newer package fixes (IMAGE)
	$(TOOLS)/grype '$(IMAGE)' --only-fixed --fail-on high

E2E_CLUSTER := KIND=$(TOOLS)/kind PYTHONPATH=vendor $(BIN)/python tools/e2e_cluster.py

e2e-cluster: setup $(TOOLS)/kind ## Create a cluster with Argo CD for `make test-e2e`; needs Docker and kubectl (IMAGE)
	$(E2E_CLUSTER) --image '$(IMAGE)'

e2e-cluster-delete: setup $(TOOLS)/kind ## Delete that cluster
	$(E2E_CLUSTER) --delete

picture: setup sources ## Draw the output of the demo: docs/demo.svg
	$(BIN)/python tools/demo_picture.py

check: lint ## Check everything that needs no database

clean: ## Remove what the targets above created here (the cache of the vendor's tools stays)
	rm -rf $(VENV) releases crds dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
