# Two commands: `make compare` (the main job) and `make test` (everything that is checked). Both set up what they need.
# git and make are all that a Debian 12 or 13 machine has to have; the lab needs root.

PYTHON ?=
VENV ?= .venv
ARGS ?=

.PHONY: begin-test docs compare test test-guest tempest lint unit lab setup bench clean help

help:
	@echo "make setup     the virtual environment .venv (PYTHON=… and VENV=… name others)"
	@echo "make compare   set up, then compare Kubernetes, Swarm and Mesos in the lab (ARGS='--profile smoke' and the like)"
	@echo "make test      set up, then ruff, mypy and all tests, those with real engines too"
	@echo "make test-guest  the lab on an emulated Debian 13 with cgroup v2, by hand (GUEST=bookworm: 12)"
	@echo "make tempest   OpenStack's own tests of Magnum's API against the lab's Magnum"
	@echo "make docs      the pages as a site, in site/; a broken link is an error"
	@echo "make bench     the project's own figures: bay times, harness CPU, sight (benchmarks/)"
	@echo "make clean     end and remove whatever the lab left, and the virtual environment"

setup:
	@sh scripts/setup.sh "$(PYTHON)" "$(VENV)"

compare: setup
	@echo "compare: about 15 minutes the first time, when the lab is built, and 9 minutes later (2 cores); ARGS may change that"
	$(VENV)/bin/coebench compare k8s swarm mesos $(ARGS)

lint: setup
	@echo "lint: ruff, mypy"
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

lab: setup
	$(VENV)/bin/coebench lab install

test: begin-test lint docs
	@sh scripts/test.sh $(VENV)/bin $(ARGS)

begin-test:
	@echo "test: four steps: set-up (about half a minute), lint and docs, the lab (at least 4 minutes, once), all tests (the longest)"

test-guest: setup
	$(VENV)/bin/python tests/guest/run.py $(GUEST) $(ARGS)

tempest: setup
	$(VENV)/bin/python tests/magnum/tempest.py $(ARGS)

docs: setup
	@echo "docs: building the pages"
	$(VENV)/bin/mkdocs build --strict --quiet

unit: setup
	@echo "unit: about 3 minutes (2 cores)"
	$(VENV)/bin/pytest tests/unit $(ARGS)

bench: setup lab
	$(VENV)/bin/python benchmarks/results/bench.py
	$(VENV)/bin/python benchmarks/lab/bench.py $(ARGS)

clean:
	[ ! -x $(VENV)/bin/coebench ] || $(VENV)/bin/coebench clean
	[ ! -f $(VENV)/pyvenv.cfg ] || rm -rf $(VENV)
