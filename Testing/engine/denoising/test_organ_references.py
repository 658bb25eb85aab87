"""Liver and blood pool of a segmentation of organs as references of a denoised scan."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.denoising import organ_references
from drmc.measures.mtv import percist_threshold
from drmc.measures.references import LIVER, POOL
from drmc.pet.reading import read_volume
from drmc.segments.segment import Segment
from drmc.segments.writing import write_segmentation
from support.engine.labeled_torso import GEOMETRY, labeled_torso

EXACT = ("--device", "cpu", "--precision", "fp32", "--model", "tiny")


def test_both_images_are_measured_in_the_regions_of_the_original():
    suv, organs, lesions = labeled_torso()
    segments = [Segment(name.upper().replace(" ", "_"), mask) for name, mask in organs.items()]
    of_liver = Segment("liver", organs["liver"])  # drawn among the lesions, it is none
    marked = [*(Segment(*one) for one in lesions.items()), of_liver]
    found = organ_references.regions(suv, GEOMETRY, segments, marked)
    assert set(found) == {LIVER, POOL}
    sphere = found[LIVER].segment.mask
    assert not (sphere & ~organs["liver"]).any()
    assert not any((sphere & mask).any() for mask in lesions.values())
    smoother = (suv[sphere].mean() + 0.5 * (suv - suv[sphere].mean())).astype(np.float32)
    stages = organ_references.record(found, {"original": suv, "denoised": smoother})["liver"]["stages"]
    for stage, image in (("original", suv), ("denoised", smoother)):
        values = image[sphere].astype(np.float64)
        assert stages[stage]["suv_mean"] == values.mean() and stages[stage]["suv_sd"] == values.std()
    assert stages["denoised"]["variation"] == pytest.approx(stages["original"]["variation"] / 2, rel=1e-3)
    assert organ_references.threshold(suv, found) == percist_threshold(suv, found[LIVER].segment)
    told = organ_references.sentences(organ_references.record(found, {"original": suv, "denoised": smoother}))
    assert len(told) == 2 and all("from the segmentation" in text for text in told)


def test_what_the_organs_have_no_room_for_is_left_out():
    suv, organs, _lesions = labeled_torso()
    small = np.zeros(suv.shape, bool)
    small[np.unravel_index(np.flatnonzero(organs["liver"])[0], suv.shape)] = True
    assert organ_references.regions(suv, GEOMETRY, [Segment("liver", small)], []) == {}
    assert organ_references.threshold(suv, {}) is None and organ_references.sentences({}) == []


def ran(case, out: Path, *arguments) -> dict:
    assert main(["denoise", str(case["low"]), "-o", str(out), *map(str, arguments), *EXACT]) == 0
    return json.loads((out / "summary.json").read_text())


@pytest.mark.usefixtures("models")
def test_the_liver_of_a_run_is_that_of_its_organs_unless_a_lesion_file_has_one(case, tmp_path, capsys):
    volume = read_volume(case["low"])
    liver = np.zeros(volume.array.shape, bool)
    liver[:, :, : volume.array.shape[2] // 2] = True
    lesion = np.zeros(volume.array.shape, bool)
    lesion[:2, :2, -2:] = True
    organs, lesions, both = (tmp_path / f"{name}.seg.nrrd" for name in ("organs", "lesions", "both"))
    write_segmentation(organs, [Segment("Liver", liver)], volume.geometry)
    write_segmentation(lesions, [Segment("node", lesion)], volume.geometry)
    small = liver & (np.indices(liver.shape)[0] < 3)
    write_segmentation(both, [Segment("node", lesion), Segment("liver", small)], volume.geometry)

    without = ran(case, tmp_path / "a", "--lesions", lesions)
    assert "liver" not in without["body"] and without["organs"] is None
    assert all(row["percist_threshold"] is None for row in without["lesions"]["segments"])
    found = ran(case, tmp_path / "b", "--lesions", lesions, "--organs", organs)
    assert found["body"]["liver"]["segment"] == "Liver"
    region = found["organs"]["references"]["liver"]["stages"]["original"]
    originals = [row for row in found["lesions"]["segments"] if row["stage"] == "original"]
    expected = 1.5 * region["suv_mean"] + 2 * region["suv_sd"]
    assert [row["percist_threshold"] for row in originals] == [pytest.approx(expected)]
    assert "liver (from the segmentation, sphere of 3 cm)" in capsys.readouterr().err
    page = (tmp_path / "b" / "report.html").read_text()
    assert "a sphere of 3 cm in the liver of the organs" in page
    assert found["organs"]["sentences"][-1] in page
    drawn = ran(case, tmp_path / "c", "--lesions", both)
    given = ran(case, tmp_path / "d", "--lesions", both, "--organs", organs)
    assert given["lesions"]["segments"] == drawn["lesions"]["segments"]
    assert given["body"] == drawn["body"]
    assert "of the liver segment" in (tmp_path / "d" / "report.html").read_text()
