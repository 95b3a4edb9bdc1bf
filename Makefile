# lab: open the course.  test: run every test.  demo: train for a minute without a browser.
# TORCH=cpu with any of them: PyTorch without NVIDIA's libraries, half the size.
# LOWEST=1 with test, in a fresh checkout: the lowest versions that pyproject.toml allows, in place of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
LAB := .venv/.lab
READY := .venv/.ready
PINS := $(if $(LOWEST),.venv/lowest.txt,constraints.txt)
CPU_INDEX := https://download.pytorch.org/whl/cpu
ONE_THREAD := OMP_NUM_THREADS=1
TELL_ENCODINGS := PYTHONWARNDEFAULTENCODING=1
CORES := $(shell $(PYTHON) -c "import os; print(min(4, os.cpu_count() or 1))")
SIDE_BY_SIDE := $(ONE_THREAD) $(BIN)/python -m pytest --dist
FIRST := $(firstword $(sort $(wildcard notebooks/*.ipynb)))
ROOT_FLAG := $(if $(filter 0,$(shell id -u)),--allow-root)
BROWSER_FLAG := $(if $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter Darwin,$(shell uname))),,--no-browser)

unexport PYTHONDONTWRITEBYTECODE # a hundred processes would each compile the kit anew

.PHONY: lab test demo check notebooks figures clean

lab: $(LAB)
	$(BIN)/jupyter lab --ip=127.0.0.1 --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/$(FIRST) \
		$(ROOT_FLAG) $(BROWSER_FLAG)

# One worker more than cores: a test that waits for a browser or a process leaves its core to another.
test: $(READY)
	$(TELL_ENCODINGS) $(SIDE_BY_SIDE) loadfile -n $$(($(CORES) + 1)) --no-loadscope-reorder tests
	$(SIDE_BY_SIDE) loadscope -n $(CORES) --nbval --nbval-cell-timeout=300 -p tests.nbval_plugin notebooks

demo: $(LAB)
	$(BIN)/mtlkit train --case scenes --seconds 60 --picture figures/demo.png

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell .
	$(BIN)/mypy

notebooks: $(LAB)
	$(ONE_THREAD) $(BIN)/python -m mtlkit.upkeep.notebooks notebooks/*.ipynb

figures: $(READY)
	$(BIN)/mtlkit figures

# Each stamp is written last: an interrupted installation is finished by the next call.
$(LAB): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mtlkit needs Python 3.11 or newer with venv (Debian: apt install python3-venv)"; exit 1; }
	$(if $(filter-out cpu,$(TORCH)),$(error TORCH=$(TORCH) is not known: write TORCH=cpu, or leave it out))
	$(PYTHON) -m venv .venv
	$(if $(LOWEST),$(BIN)/python -m pip install uv)
	$(if $(LOWEST),$(BIN)/uv pip compile -q --resolution lowest-direct --extra dev pyproject.toml -o $(PINS))
	$(if $(TORCH),$(BIN)/python -m pip install --index-url $(CPU_INDEX) $(shell grep -E '^torch(vision)?==' constraints.txt))
	$(BIN)/python -m pip install -c $(PINS) -e '.[lab]'
	$(BIN)/jupyter labextension disable --level=sys_prefix @jupyterlab/apputils-extension:announcements # it asks about news
	mkdir -p .venv/etc/jupyter/jupyter_server_config.d # small messages to the browser leave at once, see mtlkit/jupyter.py
	echo '{"ServerApp": {"jpserver_extensions": {"mtlkit.jupyter": true}}}' > .venv/etc/jupyter/jupyter_server_config.d/mtlkit.json
	touch $@

$(READY): $(LAB)
	$(BIN)/python -m pip install -c $(PINS) -e '.[dev]'
	$(BIN)/jupyter labextension disable --level=sys_prefix @jupyter/nbgrader # tests run it without its pages
	rm -f .venv/etc/jupyter/jupyter_server_config.d/nbgrader.json
	touch $@

clean:
	rm -rf .venv
