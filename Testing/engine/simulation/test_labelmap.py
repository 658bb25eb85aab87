"""A label map as the patient: the same organs, uptake and attenuation, whatever its axes, and refusals."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drmc.cli import main as cli
from drmc.datasets.manifest import read_manifest
from drmc.errors import InputError
from drmc.simulation.centers import CENTERS
from drmc.simulation.labelmap import LabeledBody, organ_of, read_label_map
from drmc.simulation.organs import LEFT, MU_PER_MM, ORGANS, organ_mask
from drmc.simulation.resampling import averages, resampled
from support.engine.synthetic_patients import WOMAN, organ_name, patient
from support.engine.torso import SCANNER

STEP = 5.0


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """The labels of a drawn body (z, y, x), x to the left: a map whose truth is known."""
    return patient(WOMAN).labels(STEP)


@pytest.fixture(scope="module")
def files(drawn, tmp_path_factory) -> tuple[Path, Path]:
    """The map turned to another orientation, with values of its own, and their names."""
    folder = tmp_path_factory.mktemp("map")
    values = {value: 1000 + 3 * number for number, value in enumerate(np.unique(drawn[drawn > 0]).tolist())}
    other = np.zeros(drawn.shape, np.int16)
    for value, own in values.items():
        other[drawn == value] = own
    image = sitk.GetImageFromArray(other)
    image.SetSpacing((STEP,) * 3)
    image.SetOrigin((-250.0, 40.0, -900.0))
    sitk.WriteImage(sitk.DICOMOrient(image, "RAS"), str(folder / "map.nii.gz"), useCompression=True)
    (folder / "names.json").write_text(json.dumps({str(own): _name(v) for v, own in values.items()}))
    return folder / "map.nii.gz", folder / "names.json"


def _name(value: int) -> str:
    name = organ_name(value)
    paired = value < LEFT and ORGANS[name].paired
    return f"{name}_right" if paired else name


@pytest.fixture(scope="module")
def body(files) -> LabeledBody:
    return LabeledBody(read_label_map(*files), 5, max_lesions=4)


def test_organs_sides_and_volumes_are_those_of_the_map(drawn, body):
    held = np.flatnonzero(drawn.any((1, 2)))
    assert np.array_equal(body.label_map.labels, drawn[held[0] : held[-1] + 1])
    low, high = body.axial_range()
    assert high - low == pytest.approx((held[-1] - held[0] + 1) * STEP)
    left = np.argwhere(body.label_map.labels == ORGANS["lung"].label + LEFT)[:, 2].mean()
    right = np.argwhere(body.label_map.labels == ORGANS["lung"].label)[:, 2].mean()
    assert left > right + 60 / STEP


def test_uptake_and_attenuation_are_the_tables(body):
    shape, spacing = body.label_map.labels.shape, (STEP,) * 3
    phantom = body.rasterize(shape, spacing, body.label_map.origin)
    assert np.array_equal(phantom.organs.numpy(), body.label_map.labels)
    for organ in ("liver", "lung", "muscle", "bladder"):
        chosen = organ_mask(phantom.organs, organ) & (phantom.lesions == 0)
        for axis in range(3):
            chosen &= chosen.roll(1, axis) & chosen.roll(-1, axis)
        assert float(phantom.activity[chosen].median()) == pytest.approx(body.uptake[organ], rel=0.2), organ
        assert float(phantom.mu[chosen].median()) == pytest.approx(MU_PER_MM[ORGANS[organ].tissue]), organ
    share = float(phantom.activity.sum()) * STEP**3 / 1e6 / body.weight_kg
    assert 0.8 < share < 1.1
    assert body.weight_kg == pytest.approx(patient(WOMAN).weight_kg, rel=0.3)


def test_lesions_lie_in_their_hosts(body):
    assert body.lesions
    shape = body.label_map.labels.shape
    phantom = body.rasterize(shape, (STEP,) * 3, body.label_map.origin)
    assert all(lesion.host != "nodal" and lesion.inside_share >= 0.85 for lesion in body.lesions)
    assert set(phantom.lesions.unique().tolist()) <= {0, *(lesion.label for lesion in body.lesions)}


def test_other_seeds_draw_other_uptake_of_the_same_body(files, body):
    other = LabeledBody(read_label_map(*files), 6, max_lesions=0)
    again = LabeledBody(read_label_map(*files), 5, max_lesions=4)
    assert other.uptake != body.uptake and again.uptake == body.uptake
    assert [a.to_dict() for a in again.lesions] == [b.to_dict() for b in body.lesions]


@pytest.mark.parametrize("step", [2.0, 5.0, 8.0, 11.0])
def test_averages_keep_the_sum(step):
    """Of something well inside, on finer and coarser grids."""
    rng = np.random.default_rng(1)
    volume = np.zeros((30, 30, 30), np.float32)
    volume[8:22, 8:22, 8:22] = rng.random((14, 14, 14))
    n = math.ceil(30 * 5.0 / step)
    own = (volume.shape, (5.0,) * 3, (0.0,) * 3)
    part, weights = averages(((n,) * 3, (step,) * 3, (-1.3,) * 3), own)
    found = resampled(np.ascontiguousarray(volume[part]), weights)
    assert float(found.sum()) * step**3 == pytest.approx(float(volume.sum()) * 125, rel=0.01)
    constant = resampled(np.ones_like(volume[part]), weights)
    assert float(constant[n // 2, n // 2, n // 2]) == pytest.approx(1, abs=1e-5)


def test_beyond_the_map_there_is_air(body):
    phantom = body.rasterize((4, 4, 4), (STEP,) * 3, (-400.0, 0.0, 0.0))
    assert not phantom.activity.any() and not phantom.mu.any() and not phantom.organs.any()
    assert phantom.activity.shape == (4, 4, 4) and phantom.organs.dtype == torch.uint8


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("liver", 7),
        ("lung_left", 103),
        ("kidney_right", 13),
        ("lung_upper_lobe_left", 103),
        ("vertebrae_L1", 33),
        ("rib_left_7", 135),
        ("hip_right", 34),
        ("Urinary bladder", 18),
        ("adrenal_gland_left", 115),
        ("body", 2),
    ],
)
def test_names_of_a_ct_segmentation_are_known(name, label):
    assert organ_of(name, "names") == label


def test_what_cannot_be_used_is_refused_in_one_line(files, tmp_path):
    scan, names = files
    write = lambda text: (tmp_path / "n.json").write_text(text) and tmp_path / "n.json"
    said = json.loads(names.read_text())
    for text, part in (
        ("[1]", "names no label"),
        ("{", "no JSON"),
        ('{"7": "unicorn"}', "no organ known"),
        ('{"7": "lung"}', "comes in pairs"),
        ('{"a": "liver"}', "no label and its organ"),
        (json.dumps({k: v for k, v in said.items() if v != "liver"}), "does not name label"),
        (
            json.dumps({k: "background" if v in ("muscle", "fat", "skin") else v for k, v in said.items()}),
            "would be air",
        ),
    ):
        with pytest.raises(InputError, match=part) as caught:
            read_label_map(scan, write(text))
        assert "\n" not in str(caught.value)
        read_label_map.cache_clear()
    for path, part in ((names, "cannot be read as a label map"), (tmp_path / "none.nii", "cannot be read")):
        with pytest.raises(InputError, match=part):
            read_label_map(path, names)


def test_the_command_scans_a_map(files, tmp_path, capsys):
    changed = {key: value for key, value in asdict(SCANNER).items() if value != asdict(CENTERS["C1"])[key]}
    center = {
        "like": "C1",
        **{key: {"value": value, "source": "assumed: a test"} for key, value in changed.items()},
    }
    (tmp_path / "tiny.json").write_text(json.dumps({"schema": 1, "centers": {"Tiny": center}}))
    scan, names = files
    common = ["simulate", "--centers", str(tmp_path / "tiny.json"), "--patients", "2", "--axial-mm", "60"]
    assert cli.main([*common, "--labels", str(scan), "-o", str(tmp_path / "no")]) == 2
    assert "--label-names" in capsys.readouterr().err and not (tmp_path / "no").exists()
    out = tmp_path / "set"
    assert cli.main([*common, "--labels", str(scan), "--label-names", str(names), "-o", str(out)]) == 0
    cases = read_manifest(out)
    assert len(cases) == 2 and len({case.patient for case in cases}) == 1  # one person
    facts = json.loads(next(out.glob("*/*/pet.json")).read_text())
    assert facts["Facts"]["label_map"] == scan.name and facts["Options"]["source"]["label_map"] == scan.name
