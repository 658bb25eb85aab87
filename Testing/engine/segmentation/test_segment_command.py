"""`drmc segment`: its files, tables, notices and refusals."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drmc.cli import main as cli
from drmc.imaging.geometry import Geometry
from drmc.measures.organs import organ_segments, organ_table
from drmc.models.weights import save_model
from drmc.networks.organ_unet import OrganUNet
from drmc.organs.table import by_name
from drmc.segmentation.quality import warnings_of, warnings_of_field
from drmc.segments.reading import read_segments
from drmc.segments.segment import Segment
from support.engine.denoising_cases import tiny_network
from support.engine.small_organs import TINY_UNET, body, write


def tiny_organs(certainty: float = 4.0) -> OrganUNet:
    """A network without training; its scores grow with its certainty."""
    torch.manual_seed(4)
    network = OrganUNet(TINY_UNET)
    with torch.no_grad():
        network.tail.weight.mul_(certainty)
    return network


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "organs.pt"
    save_model(path, tiny_organs(), 16, {"task": "organs", "title": "tiny"})
    return path


@pytest.fixture
def scan(tmp_path) -> Path:
    path = tmp_path / "scan" / "pet.nii.gz"
    write(path, body(np.random.default_rng(0))[1])
    path.with_name("pet.json").write_text(json.dumps({"Units": "SUV"}))
    return path


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "organs.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_scan_gives_a_segmentation_a_table_and_a_summary(scan, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["segment", str(scan), "-o", str(out), "--model", str(model), "--device", "cpu"]) == 0
    assert {path.name for path in out.iterdir()} == {
        "organs.seg.nrrd",
        "organs.csv",
        "report.html",
        "summary.json",
    }
    assert "Research use" in capsys.readouterr().out
    geometry = Geometry.from_image(sitk.ReadImage(str(scan)))
    segments, _ = read_segments(out / "organs.seg.nrrd", geometry)
    rows = rows_of(out)
    assert [segment.name for segment in segments] == [row["organ"] for row in rows]
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(scan)))
    for segment, row in zip(segments, rows, strict=True):
        values = image[segment.mask].astype(np.float64)
        assert float(row["volume_ml"]) == pytest.approx(values.size * 0.064)
        assert float(row["suv_mean"]) == pytest.approx(values.mean())
        assert float(row["total_uptake_ml"]) == pytest.approx(values.sum() * 0.064)
        assert row["code"] == by_name()[row["organ"]].code and row["stage"] == "whole"
    page = (out / "report.html").read_text()
    assert page.count("<img") == 3 and page.count("Research use") >= 2 and "<script" not in page
    assert all(f">{segment.name}</td>" in page for segment in segments)
    assert "SUV in g/ml (SUVbw)" in page and "Training unknown" in page
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["organs"]) == {segment.name for segment in segments}
    assert summary["suv"]["factor"] == 1 and summary["model"]["name"] == "organs"


def test_progress_counts_slabs_of_one_scan_and_of_a_batch(scan, model, tmp_path, capsys):
    cohort = tmp_path / "cohort"
    for name in ("a", "b"):
        shutil.copytree(scan.parent, cohort / name)
    for given, out in ((scan, tmp_path / "one"), (cohort, tmp_path / "all")):
        assert cli.main(["segment", str(given), "-o", str(out), "--model", str(model)]) == 0
        told = capsys.readouterr().err
        assert re.search(r"100 %, (\d+) of \1 slabs\n", told) and "tile" not in told


def test_names_colors_and_codes_are_in_the_file(scan, model, tmp_path):
    assert cli.main(["segment", str(scan), "-o", str(tmp_path / "out"), "--model", str(model)]) == 0
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(tmp_path / "out" / "organs.seg.nrrd"))
    reader.ReadImageInformation()
    fields = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    count = sum(key.endswith("_Name") for key in fields)
    for index in range(count):
        one = by_name()[fields[f"Segment{index}_Name"]]
        assert fields[f"Segment{index}_LabelValue"] == str(one.index)
        assert one.terminology in fields[f"Segment{index}_Tags"]
        shade = 0.85 if one.side == "right" else 1.0
        color = [float(part) for part in fields[f"Segment{index}_Color"].split()]
        assert color == pytest.approx([shade * part / 255 for part in one.color], abs=1e-4)


def test_a_scan_of_unknown_unit_is_measured_relative_to_the_body(scan, model, tmp_path, capsys):
    scan.with_name("pet.json").unlink()
    out = tmp_path / "out"
    assert cli.main(["segment", str(scan), "-o", str(out), "--model", str(model)]) == 0
    assert "no SUV" in capsys.readouterr().err
    assert all(row["suv_mean"] == "" and float(row["relative_mean"]) >= 0 for row in rows_of(out))
    assert json.loads((out / "summary.json").read_text())["suv"] is None


def test_an_uncorrected_scan_has_no_suv_whatever_its_units(scan, model, tmp_path):
    outs = [tmp_path / name for name in ("corrected", "uncorrected")]
    for out, options in zip(outs, ([], ["--uncorrected"]), strict=True):
        assert cli.main(["segment", str(scan), "-o", str(out), "--model", str(model), *options]) == 0
    assert all(row["suv_mean"] == "" for row in rows_of(outs[1]))
    page = (outs[1] / "report.html").read_text()
    assert "Not corrected for attenuation: such a scan has no SUV" in page and "SUV in g/ml" not in page
    same = ("organ", "volume_ml", "relative_mean")
    assert [[row[key] for key in same] for row in rows_of(outs[0])] == [
        [row[key] for key in same] for row in rows_of(outs[1])
    ]


def test_lesions_are_left_out_in_a_second_row(scan, model, tmp_path):
    mask = np.zeros((40, 24, 32), np.uint8)
    mask[10:30, 5:15, 5:20] = 1
    write(tmp_path / "lesions.nii.gz", mask)
    out = tmp_path / "out"
    arguments = ["segment", str(scan), "-o", str(out), "--model", str(model)]
    assert cli.main([*arguments, "--lesions", str(tmp_path / "lesions.nii.gz")]) == 0
    by_stage = {(row["organ"], row["stage"]): row for row in rows_of(out)}
    touched = [organ for organ, stage in by_stage if stage == "without_lesions"]
    assert touched
    for organ in touched:
        whole, without = by_stage[organ, "whole"], by_stage[organ, "without_lesions"]
        left = float(whole["volume_ml"]) - float(whole["lesion_ml"])
        assert float(without["volume_ml"]) == pytest.approx(left)


def test_numbers_of_organs_are_those_counted_by_hand():
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 1:3, 1:3] = by_name()["liver"].index
    image = np.arange(120, dtype=np.float32).reshape(4, 5, 6)
    inside = image[labels > 0]
    organs, geometry = organ_segments(labels), Geometry((4, 5, 6), (4.0,) * 3)
    lesion = np.zeros(labels.shape, bool)
    lesion[1, 1, 1:3] = True
    whole, without = organ_table(
        "s", organs, image, image > 10, geometry, has_suv=True, lesions=[Segment("l", lesion)]
    )
    assert whole["volume_ml"] == pytest.approx(8 * 0.064) and whole["suv_sd"] == pytest.approx(inside.std())
    assert whole["relative_mean"] == pytest.approx(inside.mean() / image[image > 10].mean())
    assert whole["body_share"] == pytest.approx(inside.sum() / image[image > 10].sum())
    assert whole["lesion_ml"] == pytest.approx(2 * 0.064)
    rest = image[(labels > 0) & ~lesion]
    assert without["suv_mean"] == pytest.approx(rest.mean()) and without["suv_max"] == rest.max()


def test_reversed_slices_and_bright_lungs_are_warned_of():
    row = lambda organ, mean: {"organ": organ, "stage": "whole", "relative_mean": mean}
    upright = {"brain": 900.0, "heart": 500.0, "urinary bladder": 10.0}
    assert warnings_of([], upright, {}, True) == []
    turned = {name: -height for name, height in upright.items()}
    assert "reverse order" in warnings_of([], turned, {}, True)[0]
    rows = [row("liver", 2.0), row("left lung", 1.9), row("right lung", 1.7)]
    assert "0.90 of the liver" in warnings_of(rows, {}, {}, True)[0]
    assert warnings_of(rows, {}, {}, False) == []
    whole = [row("brain", 5.0), row("urinary bladder", 5.0), row("liver", 2.0)]
    assert warnings_of(whole, {}, {}, True) == ["not found though the scan should hold them: heart, spleen"]


def test_field_voxels_bladder_and_tracer_are_warned_of():
    row = lambda organ, suv: {"organ": organ, "stage": "whole", "suv_mean": suv}
    fine, coarse = Geometry((100, 8, 8), (4.0, 4.0, 3.0)), Geometry((100, 8, 8), (4.0, 4.0, 6.5))
    thyroid, height = row("thyroid gland", 1.0), {"thyroid gland": 150.0}
    assert warnings_of_field([thyroid], fine, {"thyroid gland": 200.0}, "FDG") == []
    assert warnings_of_field([thyroid], fine, height, None) == [
        "no brain was found, though the scan reaches 147 mm above the thyroid gland"
    ]
    assert warnings_of_field([thyroid, row("brain", 6.0)], fine, height, None) == []
    turned = Geometry((100, 8, 8), (4.0, 4.0, 3.0), (0.0, 0.0, 297.0), (1, 0, 0, 0, 1, 0, 0, 0, -1))
    assert "147 mm above" in warnings_of_field([thyroid], turned, height, None)[0]
    assert "voxels of 6.5 mm" in warnings_of_field([], coarse, {}, "18F-FDG")[0]
    assert "SUVmean 31 of the bladder" in warnings_of_field([row("urinary bladder", 31.0)], fine, {}, None)[0]
    assert warnings_of_field([row("urinary bladder", None)], fine, {}, None) == []
    assert "tracer 68Ga-NODAGA: none" in warnings_of_field([], fine, {}, "68Ga-NODAGA")[0]


def test_organs_of_which_the_model_is_unsure_are_flagged_wherever_their_numbers_are(scan, tmp_path, capsys):
    tables, summaries, pages = {}, {}, {}
    for name, certainty in (("unsure", 4.0), ("sure", 4000.0)):  # the same labels: the same order of scores
        save_model(tmp_path / f"{name}.pt", tiny_organs(certainty), 16, {"task": "organs", "title": name})
        out, given = tmp_path / name, ["--model", str(tmp_path / f"{name}.pt"), "--device", "cpu"]
        assert cli.main(["segment", str(scan), "-o", str(out), *given]) == 0
        tables[name], pages[name] = rows_of(out), (out / "report.html").read_text()
        summaries[name] = json.loads((out / "summary.json").read_text())["organs"]
        assert ("the model is unsure in" in capsys.readouterr().out) == (name == "unsure")
    for row in tables["unsure"]:
        found = summaries["unsure"][row["organ"]]
        text = f"the model is unsure in {100 * found['unsure_share']:.0f} % of it"
        assert (text in row["flags"]) == (found["unsure_share"] > 0.1)
        assert found["flags"] == row["flags"]
        assert row["flags"] in pages["unsure"]
    assert any("unsure" in row["flags"] for row in tables["unsure"])
    assert not any("unsure" in row["flags"] for row in tables["sure"]) and "unsure" not in pages["sure"]


def test_the_list_of_organs_needs_no_scan(capsys):
    assert cli.main(["segment", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["organs"]
    assert len(listed) == 31 and listed[7]["key"] == "liver" and listed[7]["code"] == "10200004"


def test_refusals_are_one_line_and_leave_nothing(scan, model, tmp_path, capsys):
    out, denoises = tmp_path / "out", tmp_path / "denoises.pt"
    save_model(denoises, tiny_network(), 16)
    for arguments, message in (
        ([str(scan), "-o", str(out), "--model", str(denoises)], "not one that labels organs"),
        ([str(scan), "-o", str(out), "--model", str(tmp_path / "none.pt")], "no such file and no model"),
        ([str(tmp_path / "none.nii.gz"), "-o", str(out), "--model", str(model)], "none.nii.gz"),
        ([str(scan), "-o", str(out), "--model", str(model), "--lesions", "none.nii"], "no such file"),
        ([str(scan), "-o", str(scan), "--model", str(model)], "must be a folder"),
        ([str(scan)], "are needed"),
    ):
        assert cli.main(["segment", *arguments]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert message in error[-1] and not out.exists()


def test_denoising_refuses_a_model_of_organs(scan, model, tmp_path, capsys):
    arguments = ["denoise", str(scan), "-o", str(tmp_path / "out"), "--model", str(model)]
    assert cli.main(arguments) == 2
    assert "labels organs, not one that denoises: use it with drmc segment" in capsys.readouterr().err


def test_without_an_installed_model_it_is_said(scan, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("drmc.models.registry.model_folders", lambda: [tmp_path / "empty"])
    assert cli.main(["segment", str(scan), "-o", str(tmp_path / "out")]) == 2
    assert "no model of organs is installed" in capsys.readouterr().err


def test_the_default_models_of_the_tasks_are_apart(model, tmp_path, capsys, monkeypatch):
    save_model(tmp_path / "z.pt", tiny_network(), 16)
    monkeypatch.setattr("drmc.models.registry.model_folders", lambda: [model.parent, tmp_path])
    from drmc.models.registry import find_model

    assert find_model().name == "z" and find_model(task="organs").name == "organs"
    assert cli.main(["models"]) == 0
    assert "  task: organs" in capsys.readouterr().out.splitlines()
