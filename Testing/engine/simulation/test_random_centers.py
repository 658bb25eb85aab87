"""Drawn scanners lie in the stated ranges, are reproducible, and make images of the wanted noise."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from drmc.cli import main as cli
from drmc.datasets.manifest import read_manifest
from drmc.errors import InputError
from drmc.simulation import random_centers as drawn
from drmc.simulation.centers import load_centers
from drmc.simulation.organs import organ_mask
from drmc.simulation.patients import PatientSource
from drmc.simulation.scan import simulate_patient
from drmc.simulation.tracers import MIXED_TRACERS
from drmc.simulation.window import Window
from support.engine.synthetic_patients import WOMAN, patient

MANY = drawn.random_centers(3, 300)


def test_a_seed_is_the_same_scanners_however_many_are_drawn():
    assert drawn.random_centers(3, 5) == MANY[:5]
    assert drawn.random_centers(4, 5) != MANY[:5]
    assert len({center.name for center in [*MANY, *drawn.random_centers(3, 300, tof=True)]}) == 600


def test_the_ranges_are_filled():
    bodies = [center for center in MANY if center.region == "wholebody"]
    assert 0.1 < 1 - len(bodies) / len(MANY) < 0.2
    for values, (low, high) in (
        ([c.voxel_mm[2] for c in bodies], drawn.BODY_PIXEL_MM),
        ([c.voxel_mm[0] for c in MANY], drawn.SLICE_MM),
        ([c.system_psf_mm[2] for c in MANY], drawn.RESOLUTION_MM),
        ([c.post_filter_mm[0] for c in MANY if c.post_filter_mm[0]], drawn.POST_FILTER_MM),
        ([c.iterations * c.subsets for c in MANY], (10, 85)),
        ([min(c.dose_reduction_factors) for c in MANY], drawn.DOSE_REDUCTION[0]),
        ([max(c.dose_reduction_factors) for c in MANY], drawn.DOSE_REDUCTION[1]),
    ):
        assert low - 0.01 <= min(values) < low + 0.15 * (high - low)
        assert high - 0.15 * (high - low) < max(values) <= high + 0.01


def test_a_drawn_scanner_is_a_center_as_a_file_describes_one(tmp_path):
    for center in (*MANY[:20], *drawn.random_centers(3, 20, tof=True)):
        described = {
            key: {"value": value, "source": "drawn"}
            for key, value in center.to_dict().items()
            if key != "name"
        }
        path = tmp_path / "center.json"
        path.write_text(json.dumps({"schema": 1, "centers": {center.name: described}}))
        assert load_centers(path)[center.name] == center


def test_the_noise_of_the_liver_is_what_the_multiplier_was_set_for():
    body = patient(WOMAN)
    window = Window(body, body.diaphragm_mm - 70, body.diaphragm_mm - 45)
    bodies = [c for c in MANY if c.bed_step_mm and c.matrix < 170]
    coarse = [c for c in bodies if drawn.MULTIPLIER[0] < c.count_multiplier < drawn.MULTIPLIER[1]][:4]
    assert len(coarse) == 4
    for center in coarse:
        scan = simulate_patient(
            center, np.random.SeedSequence(1), patient=window, dose_reduction_factors=[2.0]
        )
        inside = organ_mask(scan.phantom.organs, "liver").float()[None, None]
        inside = -torch.nn.functional.max_pool3d(-inside, 3, 1, 1)[0, 0] > 0
        full, low = scan.full[inside.numpy()], scan.low[2.0][inside.numpy()]
        noise = (
            low - full
        ).std() / full.mean()  # half of the events: the difference varies as the full dose does
        assert drawn.NOISE[0] / 1.7 < noise < 1.7 * drawn.NOISE[1], center.name


def test_mixed_patients_differ_in_tracer_build_and_lesions():
    source = PatientSource(tracer="mixed", wide_build=1.0, many_lesions=0.5)
    center = next(c for c in MANY if c.region == "wholebody" and c.bed_step_mm)
    found = [source.patient(center, np.random.SeedSequence([9, k]), 60.0) for k in range(6)]
    bodies = [one.patient if isinstance(one, Window) else one for one in found]
    assert {body.tracer.name for body in bodies} <= MIXED_TRACERS.keys()
    assert len({body.tracer.name for body in bodies}) > 1
    assert {body.lesion_draws for body in bodies} == {"many", "clinical"}
    assert max(body.bmi for body in bodies) / min(body.bmi for body in bodies) > 1.4
    for one, body in zip(found, bodies, strict=True):
        if body.lesion_draws == "many":
            lower, upper = one.axial_range()
            assert upper - lower == pytest.approx(60.0)
            assert all(lower < lesion.center_mm[2] < upper for lesion in body.lesions)
    head = source.patient(next(c for c in MANY if c.region == "brain"), np.random.SeedSequence([9, 1]), 60.0)
    assert head.tracer.name == "FDG"


def test_a_dataset_of_drawn_scanners_names_each(tmp_path):
    arguments = (
        "simulate --random-centers 2 --patients 1 --seed 3 --axial-mm 20 --tracer mixed --many-lesions 1"
    )
    assert cli.main([*arguments.split(), "--device", "cpu", "-o", str(tmp_path)]) == 0
    cases = read_manifest(tmp_path)
    assert [case.center for case in cases] == ["R3-001", "R3-002"]
    for case, center in zip(cases, MANY, strict=False):
        facts = json.loads(case.facts.read_text())
        assert facts["Center"] == json.loads(json.dumps(center.to_dict()))
        assert tuple(sorted(case.low)) == tuple(sorted(center.dose_reduction_factors))
        assert facts["TracerName"] == facts["Facts"]["tracer"] in MIXED_TRACERS


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--random-centers", "0"], "--random-centers 0: give a number"),
        (["--random-centers", "2", "--centers", "C1"], "leave --centers out"),
        (["--centers", "C1", "--many-lesions", "2"], "--many-lesions 2: give a share"),
        (["--centers", "C1", "--wide-build", "-1"], "--wide-build -1: give a share"),
    ],
)
def test_what_cannot_be_is_refused(arguments, said, tmp_path, capsys):
    assert cli.main(["simulate", *arguments, "-o", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_scanner_is_drawn_for_a_count_below_one():
    with pytest.raises(InputError, match="1 to 9999"):
        drawn.random_centers(1, 0)
