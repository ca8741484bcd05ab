# make demo      train, sample and evaluate a small text-to-image model (about 6 minutes on two CPU cores)
# make test      lint, types, and every test but the slow and the nightly ones
# make nightly   the tests that take minutes to hours
# make docs      the documentation with the reference of all modules, in site/; warnings are errors
# make lint      formatting, lint and types alone
# make env       the environment alone, in .venv; the others make it when it is missing or out of date

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := dev,images,audio,molecules,qm9,judge,hf,diffusers,text,inception,lora,study,joblib,docs,peers
STAMP := $(VENV)/.installed-for-diffract
RUN ?= outputs/shapes

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test nightly docs lint env clean
.DELETE_ON_ERROR:

# A demo that was interrupted goes on where it was; one that is finished is sampled and judged again.
demo: $(STAMP)
	@if ls $(RUN)/checkpoints/*.ckpt >/dev/null 2>&1; then $(BIN)/diffract train resume=$(RUN); \
	else $(BIN)/diffract train experiment=images/shapes run=$(RUN); fi
	$(BIN)/diffract sample run=$(RUN) prompt="a large red circle at the left on a white background" n=8 trajectory=true out=$(RUN)/samples/demo
	$(BIN)/diffract evaluate run=$(RUN) n=512
	@echo
	@echo "a sheet of samples, captions below:  $(RUN)/evaluation/samples/sheet.png"
	@echo "how samples come out of the noise:   $(RUN)/samples/demo/trajectory.png"
	@echo "what was measured:                   $(RUN)/evaluation/metrics.json"

# Tests run in two processes, so each keeps to one thread.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

nightly: $(STAMP)
	$(BIN)/python -m pytest -m "slow or nightly"

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir site

env: $(STAMP)

$(STAMP): pyproject.toml setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-input --editable ".[$(EXTRAS)]" --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --no-input --no-deps k-diffusion --constraint constraints.txt
	touch $@

clean:
	rm -rf build dist site *.egg-info $(VENV)
