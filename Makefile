# Sfumato. `make` alone prints this help.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

PROMPT     ?= a castle at night
NUM_IMAGES ?= 1
HOST       ?= 127.0.0.1
PORT       ?= 8080

TEST_PROCESSES ?= 3

.DEFAULT_GOAL := help
.PHONY: help install image run-example serve test chaos fuzz services services-down lint format types bench bench-queue bench-celery bench-overhead bench-engine bench-http images build-image deploy deploy-keda deploy-scaledobject deploy-scaledjob undeploy k8s-local k8s-local-down deploy-from-scratch judge-starter train-lora-example clean

help: ## this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# torch comes by pip from the pinned constraint; an unpinned one brings gigabytes of CUDA.
$(VENV)/.engine: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Sfumato and its engine into $(VENV) (once; a few minutes) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[engine]'
	@touch $@

$(VENV)/.test: $(VENV)/.engine
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[engine,test]'
	@touch $@

install: $(VENV)/.engine ## the virtual environment, with service and engine

image: $(VENV)/.engine ## one picture: make image PROMPT="a castle at night" NUM_IMAGES=1
	@$(BIN)/sfumato generate --num-images '$(NUM_IMAGES)' -- "$$PROMPT"
image: export PROMPT := $(value PROMPT)

run-example: image ## the same, under the name one of the seed systems used

serve: $(VENV)/.engine ## the service at http://127.0.0.1:8080, until Ctrl-C
	@exec $(BIN)/sfumato serve --host $(HOST) --port $(PORT)

# More processes than cores: many tests wait for a server or for another process.
test: $(VENV)/.test lint types ## every test, with the servers that they need
	@scripts/services run $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

chaos: $(VENV)/.test ## a thousand jobs a set-up while everything breaks; some minutes
	@$(BIN)/python -m tests.chaos

fuzz: $(VENV)/.test ## five minutes of requests that nobody would write
	@$(BIN)/python -m tests.fuzz

services: $(VENV)/.test ## PostgreSQL, RabbitMQ, S3 and SNS/SQS for tests; starts what is missing
	@scripts/services up

services-down: ## stop those of them that were started
	@scripts/services down

lint: $(VENV)/.test ## ruff and the dependency rule; changes nothing
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@$(BIN)/lint-imports --no-logo >/dev/null || $(BIN)/lint-imports --no-logo

types: $(VENV)/.test ## mypy, strict
	@$(BIN)/mypy

format: $(VENV)/.test ## mend what ruff can mend
	@$(BIN)/ruff check -q --fix . ; $(BIN)/ruff format -q .

bench: bench-queue bench-overhead ## every benchmark

bench-queue: $(VENV)/.test ## durable submissions, claims and finishes a second
	@$(BIN)/python -m bench.queue

bench-celery: $(VENV)/.test ## the queue beside Celery, on this machine's RabbitMQ
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(BIN)/python -m bench.celery_peer

bench-overhead: $(VENV)/.test ## the service against a bare diffusers pipeline
	@$(BIN)/python -m bench.overhead

bench-engine: $(VENV)/.test ## the shared batch against diffusers and LitServe
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(BIN)/python -m bench.engine

bench-http: $(VENV)/.test ## submissions and reads a second over HTTP, memory, idle watchers
	@$(BIN)/python -m bench.http

# Variables such as GPU="", OVERLAY=gke or PUSH=1 reach the scripts by the environment; each script
# begins with those that it knows.
images: ## both container images; GPU="": no CUDA, PUSH=1: with SBOM and provenance
	@deploy/local/images.sh

build-image: images ## the same, under the name one of the seed systems used

k8s-local: ## a Kubernetes on this machine, from nothing to a picture (k3d or kind)
	@deploy/local/up.sh

deploy-from-scratch: k8s-local ## the same, under the name one of the seed systems used

k8s-local-down: ## take that Kubernetes away
	@deploy/local/down.sh

deploy: ## the Helm chart in your cluster, with servers for a trial; OVERLAY=gke, VALUES=mine.yaml
	@deploy/local/release.sh install

deploy-scaledobject: ## the same, workers as a Deployment that KEDA scales
	@deploy/local/release.sh install scaledobject

deploy-scaledjob: ## the same, a Kubernetes Job for each job, in place of the former
	@deploy/local/release.sh install scaledjob

deploy-keda: ## KEDA in your cluster, once
	@deploy/local/release.sh keda

undeploy: ## take the release out of your cluster
	@deploy/local/release.sh uninstall

judge-starter: $(VENV)/.test ## how well prompts steer the starter; JUDGE="--count 200" for less
	@sh training/starter/fetch.sh
	@$(BIN)/python -W ignore -m training.starter.judge $(JUDGE)

train-lora-example: $(VENV)/.test ## teach the starter a new word; two minutes, no download
	@$(BIN)/python -W ignore -m training.lora.example

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
