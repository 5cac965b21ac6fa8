# The daily commands. Each sets up what it needs (Python 3.11 and make are enough) and is quick the second time.
#   make demo [PHOTO="path-or-url ..."]   the main job on sample photos, or on yours; pictures in demo-output/
#   make demo V2=1                        the same, drawn by our own model: a tiny one unless CUSTOM_MODEL_DIR is set
#   make test                             checks, then every test
#   make serve                            the service for development, until Ctrl-C; HOST=0.0.0.0 for other machines
#   make fuzz FUZZ_S=600                  hostile input for so many seconds: the photo decoder, the parsers, the API
#   make image [VARIANT=cuda] [TAG=name]  the service as an image, with Docker or podman (docs/container.md)
#   make check | train | bench | build | lock

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv --no-progress
UV_VERSION := 0.13.9
HOST   ?= 127.0.0.1
DATA   ?= data/photos
PHOTO  ?=
# Two at a time: the tests wait for servers more than they compute. A file stays together, for its server's sake.
PYTEST ?= --numprocesses 2 --dist loadfile
FUZZ_S ?= 600

export PYTHONPATH := $(CURDIR)
export BENTOML_DO_NOT_TRACK := true

.PHONY: prometheus browser build image image-check containers setup demo serve check check-deploy test train tiny-model lora bench lock docs fuzz java clean
.DEFAULT_GOAL := demo

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 is needed, and '$(PYTHON)' is not it: install it, or say PYTHON=/path/to/python3.11"; exit 1; }
	@echo "== a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "Could not make a virtual environment: on Debian, install python3.11-venv"; exit 1; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)

# What serving on a CPU needs: no torch.
$(VENV)/.serve: requirements-serve.txt | $(BIN)/uv
	@echo "== packages for serving"
	@$(UV) pip install -q --compile-bytecode --require-hashes -r requirements-serve.txt
	@touch $@

# What our own drawing model runs on, CPU or GPU.
$(VENV)/.gpu: requirements-gpu.txt $(VENV)/.serve
	@echo "== packages for drawing with our own model (torch is large: a minute or two)"
	@$(UV) pip install -q --require-hashes -r requirements-gpu.txt
	@touch $@

# Everything: training, tests, checks. torch alone is several GB.
$(VENV)/.dev: requirements.txt $(VENV)/.serve
	@echo "== packages for development (torch is large: a minute or two)"
	@$(UV) pip install -q --require-hashes -r requirements.txt
	@touch $(VENV)/.gpu $@

setup: $(VENV)/.dev
	@[ ! -d .git ] || $(BIN)/pre-commit install >/dev/null

# An address may hold & and $, a path blanks: they reach the demo as they were typed.
demo: override export PHOTO := $(value PHOTO)
demo: $(VENV)/.serve $(if $(V2),$(VENV)/.gpu)
	@$(BIN)/python -m demo $(if $(CONCEPT),--concept $(CONCEPT)) $(if $(V2),--v2)

serve: $(VENV)/.serve
	@LOG_FORMAT=$${LOG_FORMAT:-console} $(BIN)/bentoml serve service:Deskterior --host $(HOST)

check: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m checks.secrets
	@$(BIN)/python -m checks.audit

# What is in deploy/, without a cloud: part of `make test` too.
check-deploy: $(VENV)/.dev
	@$(BIN)/pytest -q tests/unit/test_deploy_*.py

test: check java browser prometheus containers
	@$(BIN)/pytest $(PYTEST)

# A JDK, Spring and Jackson for the test with a Java client: Debian's packages. Without root that one test is skipped.
JAVA_PACKAGES := libspring-web-java libjackson2-databind-java
java:
	@if [ -e /usr/share/java/spring3-web.jar ] && command -v javac >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "== a Java client to test with"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
	    $(JAVA_PACKAGES) $$(command -v javac >/dev/null || echo default-jdk-headless) >/dev/null; \
	else echo "== no Java client here: the test with one is skipped (to install it: run 'make java' as root)"; fi

# Prometheus and its promtool, for the tests of rules and alerts: Debian's package, unpacked beside the Python one and
# not installed. Where there is none to be had those tests are skipped.
prometheus: $(VENV)/.dev
	@if command -v promtool >/dev/null || [ -x $(VENV)/prometheus/usr/bin/promtool ]; then :; \
	elif command -v apt-get >/dev/null && command -v dpkg >/dev/null && mkdir -p $(VENV)/prometheus && \
	  cd $(VENV)/prometheus && echo "== promtool, to test alerts with" && \
	  { [ "$$(id -u)" != 0 ] || apt-get update -qq; } && apt-get -qq download prometheus 2>/dev/null && \
	  dpkg -x prometheus_*.deb . && rm prometheus_*.deb; then :; \
	else echo "== no promtool here: the tests of alerts are skipped (to get it: run 'make prometheus' as root)"; fi

fuzz: $(VENV)/.dev
	@$(BIN)/python -m fuzz --seconds $(FUZZ_S) $(FUZZ)

# Chromium and Korean letters, to see that the pages work under their strict policies. Without root those tests are skipped.
browser:
	@if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "== a browser to test with"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium fonts-nanum >/dev/null; \
	else echo "== no browser here: the tests with one are skipped (to install it: run 'make browser' as root)"; fi

train: $(VENV)/.dev
	@$(BIN)/python -m training train --data $(DATA)

# A drawing model of nothing but the right shape: 2 MB, seconds. FAMILY=sdxl|flux|inpaint for others.
FAMILY ?= sd15
tiny-model: $(VENV)/.dev
	@$(BIN)/python -m training tiny --family $(FAMILY)

# BASE=models/custom/VERSION PHOTOS=folder CONCEPT=OIL, and LORA="--steps 1000 --install" for what else it takes.
lora: $(VENV)/.dev
	@$(BIN)/python -m training lora --base "$(BASE)" --photos "$(PHOTOS)" --concept "$(CONCEPT)" $(LORA)

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks

# The Bento, and the image of one. VARIANT=cuda brings torch and its CUDA, for a GPU and for our own drawing model.
#   BASE=image on which it is built, by digest; ENGINE=docker|podman; CA=file of certificates, behind a proxy
VARIANT ?= cpu
build: $(VENV)/.serve
	@$(BIN)/python -m deploy.image bento --variant $(VARIANT)

image: $(VENV)/.serve
	@$(BIN)/python -m deploy.image image --variant $(VARIANT) $(if $(TAG),--tag $(TAG)) $(if $(BASE),--base $(BASE)) \
	  $(if $(ENGINE),--engine $(ENGINE)) $(if $(CA),--ca $(CA))

# The image as it runs: part of `make test` too.
image-check: $(VENV)/.dev containers
	@$(BIN)/pytest -s tests/container

# Where no Docker answers: podman, and what makes a stand-in for the base image. Without root those tests are skipped.
CONTAINER_PACKAGES := podman runc mmdebstrap
containers:
	@if docker info >/dev/null 2>&1; then :; \
	elif command -v podman >/dev/null && command -v runc >/dev/null && command -v mmdebstrap >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "== podman to test the image with"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $(CONTAINER_PACKAGES) >/dev/null; \
	else echo "== no container engine here: the tests of the image are skipped (to install one: run 'make containers' as root)"; fi

# The one resolved set, and the part of it that a Bento carries.
lock: | $(BIN)/uv
	@$(UV) pip compile -q pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header $(LOCK) -o requirements.txt
	@$(UV) pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header -c requirements.txt --no-annotate -o requirements-serve.txt
	@$(UV) pip compile -q pyproject.toml --extra gpu --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header -c requirements.txt --no-annotate -o requirements-gpu.txt
	@printf 'cyclonedx-python-lib\nuv\n' | $(UV) pip compile -q - --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header -c requirements.txt --no-annotate -o requirements-image.txt

docs: $(VENV)/.dev
	@$(BIN)/python -m deskterior.settings_table > docs/settings.md
	@$(BIN)/python -m tests.attacks
	@$(BIN)/python -m deskterior.metrics_table

clean:
	rm -rf demo-output build .cache
