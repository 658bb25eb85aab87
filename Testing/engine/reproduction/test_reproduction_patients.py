"""What a cohort of the configuration asks for reaches the simulation."""

from __future__ import annotations

import json

import pytest
from drmc.reproduction import patients
from drmc.reproduction.config import Cohort, ReproductionConfig
from support import REPOSITORY
from support.engine.small_reproduction import write_config


def test_a_cohort_is_simulated_as_it_says(tmp_path, monkeypatch):
    config = ReproductionConfig.read(write_config(tmp_path / "one.json", tmp_path / "none"))
    asked = {}

    def write(folder, centers, number, **more):
        asked.update(more, number=number, centers=[center.name for center in centers])
        (folder).mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(patients, "write_cohort", write)
    cohort = Cohort(("C6",), 2, 5, doses=(3.0, 12.0), axial_mm=150.0, many_lesions=0.6, noise_free=True)
    with pytest.raises(patients.InputError, match="C6 has too few"):
        patients.simulate(config, cohort, print)
    options = asked["options"]
    assert (asked["centers"], asked["number"], asked["seed"], asked["split"]) == (["C6"], 2, 5, "train")
    assert (options.doses(patients.scanner("C6", cohort)), options.axial_mm) == ([3, 12], 150)
    assert options.noise_free and options.source.many_lesions == 0.6


def test_the_paper_patients_of_training_and_test_are_others():
    cohorts = json.loads((REPOSITORY / "Resources" / "Training" / "paper.json").read_text())["patients"]
    seeds = {
        split: {one["seed"] for one in cohorts if (one["split"] == "test") == split}
        for split in (True, False)
    }
    assert not seeds[True] & seeds[False]
    tested = {
        center: one["patients"] for one in cohorts if one["split"] == "test" for center in one["centers"]
    }
    assert tested == {f"C{n}": 5 for n in range(1, 7)}
