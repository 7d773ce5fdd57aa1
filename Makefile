# make demo, make test: every target makes the environment first, which takes under a second once it is there.
.DEFAULT_GOAL := help

PYTHON ?= python3
BOOTSTRAP := $(PYTHON) scripts/bootstrap
WITH_ENV := scripts/with_env
# Of the tests: one more than cores, as many of them wait for nodes, and 4 at most, as each takes up to 2 GB.
PROCESSES := $(shell n=$$(nproc 2> /dev/null || echo 2); echo $$((n < 4 ? n + 1 : 4)))

# Paths and labels may hold spaces, quotes, commas or dollar signs: they travel as they are, in the environment. Neither
# make (hence `value`, and no export of the originals) nor the shell (hence the quotes below) looks into them.
unexport INPUT LABELS
export SYNSEG_DEMO_INPUT := $(value INPUT)
export SYNSEG_DEMO_LABELS := $(value LABELS)

.PHONY: help env demo test clean distclean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18
	@echo
	@echo 'PYTHON=python3.12 uses another Python; SYNSEG_VENV=FOLDER makes an environment beside .venv;'
	@echo 'SYNSEG_ROS_DISTRO=jazzy installs Jazzy instead of Kilted where no ROS 2 is sourced;'
	@echo 'SYNSEG_EXTRAS=onnx installs only what a robot needs that runs an exported model: no torch.'

env:  ## Create the environment (.venv) and build the messages
	@$(BOOTSTRAP)

demo: env  ## Camera, node and masks; INPUT=video.mp4|folder|/dev/video0|scenes LABELS="person, car"
	@$(WITH_ENV) python -m synseg_ros.demo \
	  $${SYNSEG_DEMO_INPUT:+--input "$$SYNSEG_DEMO_INPUT"} \
	  $${SYNSEG_DEMO_LABELS:+--labels "$$SYNSEG_DEMO_LABELS"}

test: env  ## Lint and run all tests, side by side; TESTS="tests/synseg_ros -k faults" for some, "-n 0" one by one
	@$(WITH_ENV) ruff check .
	@$(WITH_ENV) python -m pytest --numprocesses $(PROCESSES) --dist worksteal $(TESTS)

clean:  ## Remove what was built, keep the environment
	rm -rf build install log dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean  ## Remove the environment in .venv as well
	rm -rf .venv
