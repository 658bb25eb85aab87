# Two commands are enough: `make demo` and `make test`. Everything is set up in .venv on first use.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= output/demo
STAMP := $(VENV)/.installed
WORKERS ?= auto

.PHONY: help env demo test test-fast lint format test-slicer weights weights-any weights-small weights-c1c4 weights-evaluation weights-organs interval-patients screenshots before-after sample-data clean

help:
	@echo "make demo                 denoise a part of a simulated patient; OUT=folder"
	@echo "make demo INPUT=scan      denoise your own scan (DICOM folder, NIfTI, NRRD, MHA); LESIONS=segmentation OUT=folder"
	@echo "make test                 engine tests and Slicer-facing tests; WORKERS=N processes (default: one for each core)"
	@echo "make test-fast            those of them that are done in a few minutes"
	@echo "make lint                 ruff, and the arrows between the packages"
	@echo "make weights              simulate, train and evaluate the shipped models again (hours; or one: weights-any, weights-c1c4, weights-small)"
	@echo "make weights-organs       simulate whole bodies and train the model of organs (a day)"
	@echo "make screenshots          pictures of the panel's states and of slice views again, into Resources/Screenshots"
	@echo "make screenshots SLICER=/path/to/Slicer   pictures of the panel in a real Slicer"
	@echo "make before-after         the picture on top of the README again (10 minutes)"
	@echo "make sample-data          simulate the shipped sample patient again (minutes)"
	@echo "make test-slicer SLICER=/path/to/Slicer   the modules' own tests in a real Slicer with its window"

env: $(STAMP)

$(STAMP): pyproject.toml
	@echo "== setting up $(VENV) (a few minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info[:2] else "Python 3.10 or newer is needed: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

demo: env
	@echo "== DRMC demo (research use only)"
ifdef INPUT
	@$(BIN)/drmc denoise "$(INPUT)" -o "$(OUT)" $(if $(LESIONS),--lesions "$(LESIONS)") $(if $(REFERENCE),--reference "$(REFERENCE)")
else
	@echo "== simulating a part of a low-dose patient with many lesions, of center C6, which the model never saw"
	@$(BIN)/drmc simulate --centers C6 --patients 1 --split test --seed 7 --axial-mm 110 --drf 12 --many-lesions 1 -o "$(OUT)/simulated"
	@echo "== denoising it"
	@$(BIN)/drmc denoise "$(OUT)/simulated/C6/C6-test-0001/low_drf012.nii.gz" \
		--lesions "$(OUT)/simulated/C6/C6-test-0001/lesions.nii.gz" \
		--reference "$(OUT)/simulated/C6/C6-test-0001/full.nii.gz" -o "$(OUT)/denoised"
endif

test: env
	@echo "== tests: engine, then Slicer-facing"
	@QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest Testing -n $(WORKERS) --dist loadfile

test-fast: env
	@echo "== fast tests: without those that train, simulate or start processes"
	@QT_QPA_PLATFORM=offscreen $(BIN)/python -m pytest Testing -m "not slow" -n $(WORKERS) --dist loadfile

lint: env
	@echo "== lint: ruff check, ruff format --check, lint-imports, mypy"
	@$(BIN)/ruff check . || { echo "== lint failed: ruff check, see above; make format fixes some of it"; exit 1; }
	@$(BIN)/ruff format --check . || { echo "== lint failed: files are not formatted; make format formats them"; exit 1; }
	@$(BIN)/lint-imports || { echo "== lint failed: an import that the layers forbid, see above and ARCHITECTURE.md"; exit 1; }
	@$(BIN)/python -m mypy || { echo "== lint failed: types, see above"; exit 1; }

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

WEIGHTS := output/weights
# glibc gives large arrays back after each use and asks for them again, in small pages: a third of the time.
KEEP_MEMORY := GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.trim_threshold=8000000000:glibc.malloc.mmap_threshold=8000000000:glibc.malloc.top_pad=268435456
# The noise of a seed depends on the kind of device that draws it.
SIMULATE := $(KEEP_MEMORY) OMP_NUM_THREADS=1 $(BIN)/drmc simulate --device cpu --axial-mm 150 --workers 2
TRAIN_PATIENTS := $(SIMULATE) --seed 2031 -o $(WEIGHTS)/data
TEST_PATIENTS := $(SIMULATE) --seed 2033 --split test --patients 5 -o $(WEIGHTS)/test

# Two processes of one thread each are faster than one of two; the steps are the same.
TRAIN := $(KEEP_MEMORY) OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --nproc-per-node=2 -m drmc.training Resources/Training
SHIP := DRMCCore/drmc/models/data
weights: weights-any weights-c1c4 weights-evaluation weights-small

ANY_PATIENTS := $(SIMULATE) --tracer mixed --many-lesions 0.6 --wide-build 0.2 --wide-uptake 0.3
# Calibration and check of the intervals of both models.
interval-patients: env
	$(ANY_PATIENTS) --random-centers 60 --patients 1 --split validation --seed 2044 -o $(WEIGHTS)/intervals
	$(ANY_PATIENTS) --random-centers 24 --patients 1 --split validation --seed 2045 -o $(WEIGHTS)/intervals
	$(ANY_PATIENTS) --random-centers 24 --patients 1 --split test --seed 2046 -o $(WEIGHTS)/intervals-test

weights-any: env interval-patients
	$(ANY_PATIENTS) --noise-free --random-centers 8 --patients 1 --split validation --seed 2042 -o $(WEIGHTS)/any
	$(ANY_PATIENTS) --noise-free --random-centers 100 --patients 2 --seed 2041 -o $(WEIGHTS)/any
	$(TRAIN)/drmc-any.json
	cp $(WEIGHTS)/drmc-any/drmc-any.pt $(WEIGHTS)/drmc-any/drmc-any.json $(SHIP)/
	cp $(WEIGHTS)/drmc-any/training.jsonl $(SHIP)/drmc-any.training.jsonl
	$(BIN)/drmc intervals calibrate drmc-any $(WEIGHTS)/intervals --card
	$(BIN)/drmc intervals check drmc-any $(WEIGHTS)/intervals-test --split test --card
	$(BIN)/drmc profile drmc-any $(WEIGHTS)/any --split validation --card
	$(ANY_PATIENTS) --random-centers 8 --patients 1 --split train --seed 2043 -o $(WEIGHTS)/any-test
	$(ANY_PATIENTS) --random-centers 8 --patients 1 --split test --seed 2043 -o $(WEIGHTS)/any-test

# The patients of Resources/Training/paper.json, which `drmc reproduce` would simulate one after the other.
PAPER := output/paper
PAPER_PATIENTS := $(SIMULATE) --many-lesions 0.6 --noise-free --seed 2051 -o $(PAPER)/patients
PAPER_TEST := $(SIMULATE) --many-lesions 0.6 --seed 2053 --split test --patients 5 -o $(PAPER)/test
weights-c1c4: env interval-patients
	$(PAPER_PATIENTS) --centers C1,C2,C3,C4 --patients 1 --split validation
	$(PAPER_PATIENTS) --centers C1,C2 --patients 10
	$(PAPER_PATIENTS) --centers C3,C4 --patients 7
	$(PAPER_PATIENTS) --centers C5 --patients 2
	$(PAPER_PATIENTS) --centers C6 --patients 2 --drf 3,4,6,12
	$(TRAIN)/drmc-c1c4.json
	$(TRAIN)/resunet-c1c4.json
	$(PAPER_TEST) --centers C1,C2,C3,C4,C5
	$(PAPER_TEST) --centers C6 --drf 3,4,6,12
	$(BIN)/drmc reproduce Resources/Training/paper.json --dataset $(PAPER)/patients --test-dataset $(PAPER)/test \
		--patches 2400 --only baseline,drmc -o $(PAPER)/reproduction
	cp $(WEIGHTS)/drmc-c1c4/drmc-c1c4.pt $(WEIGHTS)/drmc-c1c4/drmc-c1c4.json $(SHIP)/
	cp $(WEIGHTS)/drmc-c1c4/training.jsonl $(SHIP)/drmc-c1c4.training.jsonl
	$(BIN)/drmc intervals calibrate drmc-c1c4 $(WEIGHTS)/intervals --card
	$(BIN)/drmc intervals check drmc-c1c4 $(WEIGHTS)/intervals-test --split test --card
	$(BIN)/drmc profile drmc-c1c4 $(PAPER)/patients --split validation --card

weights-evaluation: env
	$(BIN)/drmc evaluate Resources/Training/evaluation-any.json --card --workers 2
	$(BIN)/drmc evaluate Resources/Training/evaluation-c1c4.json --card --workers 2

MODEL := drmc-small-2
weights-small: env
	$(TRAIN_PATIENTS) --centers C1,C2 --patients 20
	$(TRAIN_PATIENTS) --centers C3,C4 --patients 14
	$(TRAIN_PATIENTS) --centers C1,C2,C3,C4 --patients 1 --split validation
	$(TRAIN)/$(MODEL).json
	$(TRAIN)/baseline.json
	$(TRAIN)/specialists.json
	cp $(WEIGHTS)/$(MODEL)/$(MODEL).pt $(WEIGHTS)/$(MODEL)/$(MODEL).json $(SHIP)/
	cp $(WEIGHTS)/$(MODEL)/training.jsonl $(SHIP)/$(MODEL).training.jsonl
	$(TRAIN_PATIENTS) --centers C5 --patients 2
	$(TRAIN_PATIENTS) --centers C6 --patients 2 --drf 12
	$(TEST_PATIENTS) --centers C1,C2,C3,C4,C5
	$(TEST_PATIENTS) --centers C6 --drf 12
	$(BIN)/drmc evaluate Resources/Training/evaluation.json --card --workers 2
	$(BIN)/drmc simulate --device cpu --workers 2 --seed 2034 --split validation --centers C1,C2,C3,C4 --patients 2 -o $(WEIGHTS)/profiles
	$(BIN)/drmc profile $(MODEL) $(WEIGHTS)/profiles --card

ORGANS := output/organs
ORGAN_PATIENTS := $(KEEP_MEMORY) $(BIN)/drmc simulate --device cpu --centers Resources/Scanners/organs-4mm.json --tracer mixed \
	--wide-uptake 0.5 --wide-build 0.3 --field mixed --uncorrected --compact -o $(ORGANS)/data
weights-organs: env
	$(ORGAN_PATIENTS) --seed 2401 --split validation --patients 2
	$(ORGAN_PATIENTS) --seed 2402 --patients 80
	$(KEEP_MEMORY) OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --nproc-per-node=2 -m drmc.training Resources/Training/organs.json

screenshots: env
ifdef SLICER
	"$(SLICER)" --no-splash --disable-settings --additional-module-paths DRMCCore DRMCDenoise DRMCSegment DRMCTraining \
		--python-script Testing/slicer/pictures_in_slicer.py -- Resources/Screenshots
else
	@QT_QPA_PLATFORM=offscreen $(BIN)/python Testing/host/make_screenshots.py
endif

before-after: env
	@$(BIN)/python Testing/host/make_before_after.py

sample-data: env
	@QT_QPA_PLATFORM=offscreen $(BIN)/python Testing/host/make_sample_data.py

test-slicer:
	@test -n "$(SLICER)" || { echo "say where Slicer is: make test-slicer SLICER=/path/to/Slicer"; exit 2; }
	@$(PYTHON) Testing/slicer/run_in_slicer.py "$(SLICER)"

clean:
	rm -rf $(VENV) output
