# Every target makes the environment first. This takes under a second once the environment is there.
.DEFAULT_GOAL := help

PYTHON ?= python3
BOOTSTRAP := $(PYTHON) scripts/bootstrap
WITH_ENV := scripts/with_env
# Of the tests: one more than cores, as many of them wait for nodes, and 4 at most, as each takes up to 2 GB.
PROCESSES := $(shell n=$$(nproc 2> /dev/null || echo 2); echo $$((n < 4 ? n + 1 : 4)))

# Paths and labels may hold spaces, quotes, commas or dollar signs. So they are passed in the environment as they are:
# make does not expand them (`value`, and no export of the originals), and the shell does not (the quotes below).
unexport INPUT LABELS EXTRAS
export SYNSEG_DEMO_INPUT := $(value INPUT)
export SYNSEG_DEMO_LABELS := $(value LABELS)
# Which libraries the environment gets; without it, an environment keeps those that it has.
ifeq ($(origin EXTRAS),command line)
export SYNSEG_EXTRAS := $(EXTRAS)
endif

.PHONY: help env demo live test docs clean distclean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18
	@echo
	@echo 'Variables:'
	@echo '  PYTHON=python3.12        use another Python'
	@echo '  SYNSEG_VENV=FOLDER       make the environment in another folder than .venv'
	@echo '  SYNSEG_ROS_DISTRO=jazzy  install Jazzy instead of Kilted; without effect where a ROS 2 is sourced'
	@echo '  EXTRAS=dev               install these extras of pyproject.toml; dev has all, and without it you get openvino,bag'

env:  ## Create the environment (.venv) and build the messages; EXTRAS=dev adds what training and tests need
	@$(BOOTSTRAP)

demo: env  ## Show the node at work; INPUT=video.mp4|folder|/dev/video0|scenes LABELS="person, car"
	@$(WITH_ENV) python -m synseg_ros.demo \
	  $${SYNSEG_DEMO_INPUT:+--input "$$SYNSEG_DEMO_INPUT"} \
	  $${SYNSEG_DEMO_LABELS:+--labels "$$SYNSEG_DEMO_LABELS"}

live: env  ## Show a camera with its masks in a web page; INPUT=1|video.mp4|folder LABELS="person, car"
	@$(WITH_ENV) synseg live \
	  $${SYNSEG_DEMO_LABELS:+"--labels=$$SYNSEG_DEMO_LABELS"} \
	  $${SYNSEG_DEMO_INPUT:+-- "$$SYNSEG_DEMO_INPUT"}

# What a target cannot do without is installed, too. Generated scenes have a model of their own, for torch.
live: export SYNSEG_NEEDS := live
test: export SYNSEG_NEEDS := test
docs: export SYNSEG_NEEDS := docs
demo: export SYNSEG_NEEDS := $(if $(filter-out scenes,$(value INPUT)),,$(if $(value INPUT),torch))
test: env  ## Run lint and all tests in parallel; TESTS="tests/synseg_ros -k faults" runs some, TESTS="-n 0" one at a time
	@$(WITH_ENV) ruff check .
	@$(WITH_ENV) python -m pytest --numprocesses $(PROCESSES) --dist worksteal $(TESTS)

docs: env  ## Build the documentation site in site/, without the network
	@NO_MKDOCS_2_WARNING=1 $(WITH_ENV) python -m mkdocs build --strict --quiet
	@echo 'Open site/index.html, or run: scripts/with_env python -m http.server --directory site'

clean:  ## Remove build results, keep the environment
	rm -rf build install log dist site *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean  ## Remove build results and the environment in .venv
	rm -rf .venv
