"""Organs before and after denoising: numbers, the sentence on their means, files, batch and refusal."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.denoising.organ_change import AIM_PERCENT, organ_changes, sentences
from drmc.imaging.geometry import Geometry
from drmc.pet.reading import read_volume
from drmc.segments.segment import Segment
from drmc.segments.writing import write_segmentation

EXACT = ("--device", "cpu", "--precision", "fp32", "--model", "tiny")


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def organs_of(case, folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Two organs on the scan's grid: half of it, and a slab."""
    volume = read_volume(case["low"])
    masks = {name: np.zeros(volume.array.shape, bool) for name in ("liver", "spleen")}
    middle = volume.array.shape[2] // 2
    masks["liver"][:, :, :middle] = masks["spleen"][:, :, middle:] = True
    path = folder / "organs.seg.nrrd"
    write_segmentation(path, [Segment(*one) for one in masks.items()], volume.geometry)
    return path, masks


def test_numbers_are_those_counted_by_hand():
    shape = (12, 12, 12)
    before = np.random.default_rng(0).gamma(20.0, 0.1, shape).astype(np.float32)
    after = (before.mean() + 0.5 * (before - before.mean())).astype(np.float32)
    mask = np.zeros(shape, bool)
    mask[2:10, 2:10, 2:10] = True
    geometry = Geometry(shape, (5.0,) * 3)
    rows = organ_changes("s", [Segment("liver", mask)], {"original": before, "denoised": after}, geometry)
    found = {row["stage"]: row for row in rows}
    for stage, image in (("original", before), ("denoised", after)):
        values = image[mask].astype(np.float64)
        assert found[stage]["suv_mean"] == values.mean() and found[stage]["suv_sd"] == values.std()
        assert found[stage]["volume_ml"] == pytest.approx(512 * 0.125)
    assert found["change_percent"]["suv_sd"] == pytest.approx(-50.0, abs=0.01)
    assert abs(found["change_percent"]["suv_mean"]) < 0.5
    assert sentences(rows) == ["SUVmean of all 1 organs of 50 ml or more is kept within 2 %"]
    lowered = organ_changes(
        "s", [Segment("liver", mask)], {"original": before, "denoised": before * np.float32(0.95)}, geometry
    )
    assert sentences(lowered) == ["SUVmean of organs changed by more than 2 %: liver −5.0 %"]
    small = [Segment("adrenal gland", mask & (np.indices(shape)[0] < 4))]
    assert sentences(organ_changes("s", small, {"original": before, "denoised": before * 0}, geometry)) == []
    assert AIM_PERCENT == 2


@pytest.mark.usefixtures("models")
def test_a_run_writes_the_table_and_says_whether_means_are_kept(case, tmp_path, capsys):
    path, masks = organs_of(case, tmp_path)
    out = tmp_path / "out"
    assert main(["denoise", str(case["low"]), "-o", str(out), "--organs", str(path), *EXACT]) == 0
    told = capsys.readouterr().err
    rows = rows_of(out / "organs.csv")
    assert [(row["organ"], row["stage"]) for row in rows] == [
        (organ, stage) for organ in masks for stage in ("original", "denoised", "change_percent")
    ]
    before, after = (read_volume(one).suv_array() for one in (case["low"], out / "denoised.nii.gz"))
    for organ, mask in masks.items():
        means = {row["stage"]: float(row["suv_mean"]) for row in rows if row["organ"] == organ}
        assert means["original"] == pytest.approx(before[mask].mean(dtype=np.float64))
        assert means["denoised"] == pytest.approx(after[mask].mean(dtype=np.float64), rel=1e-6)
    summary = json.loads((out / "summary.json").read_text())
    assert "organs.csv" in summary["outputs"] and len(summary["organs"]["rows"]) == len(rows)
    assert summary["organs"]["sentences"] and all(text in told for text in summary["organs"]["sentences"])
    assert "Organs before and after" in (out / "report.html").read_text()
    # Another run without them leaves no table of an earlier one.
    assert main(["denoise", str(case["low"]), "-o", str(out), *EXACT]) == 0
    assert not (out / "organs.csv").exists()
    assert "Organs before and after" not in (out / "report.html").read_text()


@pytest.mark.usefixtures("models")
def test_organs_change_no_voxel_and_a_batch_finds_them_by_name(case, tmp_path, capsys):
    path, _masks = organs_of(case, tmp_path)
    out = tmp_path / "out"
    batch = ["denoise", str(case["low"].parent), "-o", str(out), "--match", case["low"].name, *EXACT]
    pattern = str(tmp_path / "{name}.seg.nrrd")
    path.rename(tmp_path / f"{case['low'].name.partition('.')[0]}.seg.nrrd")
    assert main([*batch, "--organs", pattern]) == 0, capsys.readouterr().err
    name = case["low"].name.partition(".")[0]
    assert (out / name / "organs.csv").is_file()
    image = (out / name / "denoised.nii.gz").read_bytes()
    assert main([*batch, "--organs", pattern, "--resume"]) == 0
    assert "1 skipped" in capsys.readouterr().out
    assert main([*batch, "--resume"]) == 0
    assert (out / name / "denoised.nii.gz").read_bytes() == image


@pytest.mark.usefixtures("models")
def test_a_file_that_is_not_there_is_refused(case, tmp_path, capsys):
    arguments = ["denoise", str(case["low"]), "-o", str(tmp_path / "out"), "--organs", "none.seg.nrrd"]
    assert main([*arguments, *EXACT]) == 2
    assert "none.seg.nrrd: no such file (--organs)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
