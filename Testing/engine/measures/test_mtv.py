"""Volumes by thresholds that do not follow SUVmax, counted by hand, and the note on those that do."""

from __future__ import annotations

import json

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.errors import InputError
from drmc.imaging.files import write_image
from drmc.imaging.geometry import Geometry
from drmc.inference.denoiser import Denoiser
from drmc.measures import mtv
from drmc.measures.lesion_files import write_lesions_csv
from drmc.measures.lesions import lesion_table
from drmc.measures.rows import LESION_COLUMNS, THRESHOLDS
from drmc.report.lesions import lesions_html
from drmc.segments.segment import Segment
from support.engine.denoising_cases import GRID, lesion_mask, suv_image
from support.engine.lesion_tables import read_lesions_csv

GEOMETRY = Geometry((6, 8, 10), (2.0, 3.0, 4.0))
VOXEL = 2.0 * 3.0 * 4.0 / 1000.0


def case():
    """A noisy lesion with one hot voxel, and a denoised one whose hot voxel is gone; a liver beside it."""
    rng = np.random.default_rng(5)
    original = rng.uniform(1.8, 2.2, GEOMETRY.shape).astype(np.float32)
    lesion = np.zeros(GEOMETRY.shape, bool)
    lesion[1:5, 1:5, 1:5] = True
    liver = np.zeros(GEOMETRY.shape, bool)
    liver[1:5, 5:8, 6:10] = True
    original[lesion] = rng.uniform(2.0, 6.0, lesion.sum())
    original[2, 2, 2] = 12.0
    denoised = original.copy()
    denoised[2, 2, 2] = 6.0
    return original, denoised, Segment("lesion", lesion), Segment("Liver", liver)


def table(liver=None, segments=None):
    original, denoised, lesion, organ = case()
    segments = segments or [lesion, organ]
    rows = lesion_table("p", segments, {"original": original, "denoised": denoised}, GEOMETRY, liver)
    return {(row["segment"], row["stage"]): row for row in rows}


def test_every_volume_is_what_counting_gives():
    original, denoised, lesion, liver = case()
    rows = table()
    percist = 1.5 * original[liver.mask].mean(dtype=float) + 2.0 * original[liver.mask].std(dtype=float)
    for stage, image in (("original", original), ("denoised", denoised)):
        row, values = rows["lesion", stage], image[lesion.mask].astype(float)
        for name, threshold in (("suv25", 2.5), ("suv40", 4.0), ("percist", percist)):
            hot = values[values >= threshold]
            assert row[f"mtv_{name}_ml"] == pytest.approx(hot.size * VOXEL)
            assert row[f"tlg_{name}"] == pytest.approx(hot.sum() * VOXEL)
        assert row["mtv41_original_ml"] == pytest.approx((values >= 0.41 * 12.0).sum() * VOXEL)
        assert row["percist_threshold"] == pytest.approx(percist)
        assert rows["Liver", stage]["mtv_percist_ml"] is None  # the reference is no lesion
    assert rows["lesion", "original"]["mtv41_original_ml"] == rows["lesion", "original"]["mtv41_ml"]
    # The relative volume has grown though nothing but the hottest voxel has changed; the others say so.
    change = rows["lesion", "change_percent"]
    assert (
        change["mtv41_ml"] > 40 and abs(change["mtv_suv25_ml"]) < 1e-9 and abs(change["mtv_suv40_ml"]) < 1e-9
    )
    assert abs(change["mtv41_original_ml"]) < 1e-9


def test_a_liver_is_named_or_asked_for():
    _, _, lesion, organ = case()
    other = Segment("reference region", organ.mask)
    assert table(segments=[lesion])["lesion", "original"]["mtv_percist_ml"] is None
    assert table(segments=[lesion, other])["lesion", "original"]["mtv_percist_ml"] is None
    found = table("Reference Region", [lesion, other])["lesion", "original"]["percist_threshold"]
    assert found == table()["lesion", "original"]["percist_threshold"]
    with pytest.raises(InputError, match="liver reference spleen: no segment has this name"):
        table("spleen")


def test_nothing_above_a_threshold_is_no_volume_and_its_change_is_not_defined():
    image = np.full(GEOMETRY.shape, 1.0, np.float32)
    _, _, lesion, _ = case()
    rows = lesion_table("p", [lesion], {"original": image, "denoised": image}, GEOMETRY)
    assert rows[0]["mtv_suv25_ml"] == rows[0]["tlg_suv40"] == 0.0 and rows[2]["mtv_suv25_ml"] is None


def test_the_table_is_written_with_the_new_columns_last_and_read_back(tmp_path):
    rows = list(table().values())
    write_lesions_csv(tmp_path / "lesions.csv", rows)
    head = (tmp_path / "lesions.csv").read_text().splitlines()[0].split(",")
    assert head == [*LESION_COLUMNS] and head[14 : 14 + len(THRESHOLDS)] == [*THRESHOLDS]
    assert read_lesions_csv(tmp_path / "lesions.csv") == rows


def test_the_report_marks_relative_volumes_and_explains_once():
    page = lesions_html(list(table().values()))
    assert page.count("the 41 % threshold follows SUVmax") == 1 and mtv.MARK in page
    line = next(part for part in page.split("<tr") if ">MTV 41 %<" in part)
    assert f"% {mtv.MARK}</td>" in line
    assert mtv.MARK not in next(part for part in page.split("<tr") if "MTV SUV ≥ 2.5" in part)
    assert "MTV PERCIST" in page and "1.5 × mean + 2 SD" in page
    _, _, lesion, _ = case()
    assert "PERCIST" not in lesions_html(list(table(segments=[lesion]).values()))


@pytest.mark.parametrize(("axis", "end"), [(0, 0), (0, -1), (1, 0), (2, -1)])
def test_a_peak_that_misses_the_maximum_at_an_end_of_the_image_is_explained(axis, end):
    """The hottest voxels lie in the outermost plane, around which no sphere is complete."""
    spacing, origin = (4.0, 3.0, 2.5), (-10.0, 30.0, 7.0)
    geometry = Geometry((12, 14, 16), spacing, origin, (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    image = np.full(geometry.shape, 2.0, np.float32)
    np.moveaxis(image, axis, 0)[end] = 20.0
    at_end, away = np.zeros((2, *geometry.shape), bool)
    at_end[4:-4, 4:-4, 4:-4] = away[4:-4, 4:-4, 4:-4] = True
    np.moveaxis(at_end, axis, 0)[end] = np.moveaxis(at_end, axis, 0)[5]
    rows = lesion_table("p", [Segment("far", away), Segment("end", at_end)], {"original": image}, geometry)
    assert rows[1]["suv_max"] == 20.0 and rows[1]["suv_peak"] == pytest.approx(2.0)
    (note,) = mtv.peak_notes(rows, geometry)
    assert note.startswith("SUVpeak of end leaves out the SUVmax") and "end of the image" in note
    # Nor does the peak of equal voxels exceed their maximum, whatever its last digit is.
    assert mtv.peak_notes(rows[:1], geometry) == []


def test_a_peak_above_the_maximum_is_explained():
    image = np.full(GEOMETRY.shape, 5.0, np.float32)
    mask = np.zeros(GEOMETRY.shape, bool)
    mask[3, 4, 5] = True
    image[3, 4, 5] = 1.0
    rows = lesion_table("p", [Segment("rim", mask)], {"original": image}, GEOMETRY)
    rows[0]["suv_peak"] = 4.9  # whether the sphere fits depends on the grid
    (note,) = mtv.peak_notes(rows, GEOMETRY)
    assert "SUVpeak exceeds SUVmax in rim" in note and "reaches out of it" in note
    assert not any("exceeds" in note for note in mtv.peak_notes(table().values(), GEOMETRY))


def test_a_liver_that_is_not_there_is_refused_before_the_network_runs(models, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Denoiser, "denoise", lambda *_, **__: pytest.fail("the network ran"))
    write_image(tmp_path / "pet.nrrd", suv_image(), GRID, metadata={"units": "SUV"})
    write_image(tmp_path / "mask.nii.gz", lesion_mask().astype(np.float32), GRID)
    asked = ["denoise", str(tmp_path / "pet.nrrd"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    asked += ["--liver-reference", "nobody"]
    assert main([*asked, "--lesions", str(tmp_path / "mask.nii.gz")]) == 2
    assert "choose one of" in capsys.readouterr().err
    assert main(asked) == 2
    assert "is a segment of --lesions, which is missing" in capsys.readouterr().err


def test_a_scan_of_a_batch_without_lesions_needs_no_liver(models, tmp_path):
    for name in ("a", "b"):
        path = tmp_path / "scans" / f"{name}.nrrd"
        path.parent.mkdir(exist_ok=True)
        write_image(path, suv_image(), GRID, metadata={"units": "SUV"})
    (tmp_path / "masks").mkdir()
    write_image(tmp_path / "masks" / "a.nii.gz", lesion_mask().astype(np.float32), GRID)
    asked = ["denoise", str(tmp_path / "scans"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    asked += ["--lesions", str(tmp_path / "masks"), "--liver-reference", "a"]
    assert main(asked) == 0
    assert sorted(path.parent.name for path in (tmp_path / "out").glob("*/summary.json")) == ["a", "b"]


def test_terminal_json_and_settings(models, tmp_path, capsys):
    image = suv_image()
    write_image(tmp_path / "pet.nrrd", image, GRID, metadata={"units": "SUV"})
    labels = lesion_mask().astype(np.float32)
    labels[5:8, 3:6, 3:6] = 2
    write_image(tmp_path / "mask.nii.gz", labels, GRID)
    asked = ["denoise", str(tmp_path / "pet.nrrd"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    asked += ["--lesions", str(tmp_path / "mask.nii.gz")]
    assert main([*asked, "--liver-reference", "nobody"]) == 2
    assert "choose one of" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert out.count("the 41 % threshold follows SUVmax") == 1 and f"% {mtv.MARK})" in out
    names = {
        row["segment"]
        for row in json.loads((tmp_path / "out" / "summary.json").read_text())["lesions"]["segments"]
    }
    liver = sorted(names)[-1]
    quantified = ["quantify", str(tmp_path / "out"), "--lesions", str(tmp_path / "mask.nii.gz")]
    assert main([*quantified, "--liver-reference", liver]) == 0
    assert "PERCIST threshold by the liver" in capsys.readouterr().out
    assert main([*quantified, "--liver-reference", liver, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["segments"]
    expected = 1.5 * image[labels == 2].mean(dtype=float) + 2 * image[labels == 2].std(dtype=float)
    assert rows[0]["percist_threshold"] == pytest.approx(expected, rel=1e-6)
