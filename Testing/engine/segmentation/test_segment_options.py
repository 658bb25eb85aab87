"""`drmc segment` beyond its tables: a given segmentation, uptake and burden, DICOM SEG, and batches."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from drmc.cli import main as cli
from drmc.measures.candidates import liver_sphere, percist_threshold
from drmc.measures.organs import COLUMNS
from drmc.models.weights import save_model
from drmc.networks.organ_unet import OrganUNet
from drmc.organs.table import DICOM_CATEGORY, SIDE_CODES, by_name, classes
from drmc.pet.reading import read_volume
from drmc.segments.reading import read_segments
from drmc.segments.segment import Segment
from pydicom.sr.codedict import codes
from support.engine.denoised_series import VALID
from support.engine.dicom_checker import complaints
from support.engine.labeled_torso import GEOMETRY, LESIONS, labeled_torso, write_organs, write_torso
from support.engine.small_organs import TINY_UNET
from support.engine.synthetic_dicom import write_series


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(4)
    path = tmp_path_factory.mktemp("model") / "organs.pt"
    save_model(path, OrganUNet(TINY_UNET), 16, {"task": "organs", "title": "tiny"})
    return path


@pytest.fixture
def torso(tmp_path) -> dict[str, Path]:
    return write_torso(tmp_path / "in")


def segment(*arguments) -> int:
    return cli.main(["segment", *map(str, arguments), "--device", "cpu"])


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_the_organs_of_a_result_give_its_numbers_again_without_a_model(torso, model, tmp_path, monkeypatch):
    first, again = tmp_path / "first", tmp_path / "again"
    assert segment(torso["scan"], "-o", first, "--model", model, "--threshold", "4") == 0
    monkeypatch.setattr("drmc.models.registry.model_folders", lambda: [])
    corrected = ("--segmentation", first / "organs.seg.nrrd", "--threshold", "4")
    assert segment(torso["scan"], "-o", again, *corrected) == 0
    assert (first / "uptake.csv").read_bytes() == (again / "uptake.csv").read_bytes()
    rows = rows_of(first / "organs.csv")
    for row in rows:  # how sure the model was is not in the segmentation
        row["flags"] = "; ".join(flag for flag in row["flags"].split("; ") if "unsure" not in flag)
    assert rows == rows_of(again / "organs.csv")
    found, made = summary_of(again), summary_of(first)
    assert all(one["unsure_share"] is None for one in found["organs"].values())
    assert found["model"] is None and made["model"]["name"] == "organs"
    assert found["uptake"] == made["uptake"] and found["references"] == made["references"]


def test_only_the_organs_that_are_asked_for_are_written_with_the_same_numbers(torso, tmp_path, capsys):
    given = ("--segmentation", torso["organs"])
    assert segment(torso["scan"], "-o", tmp_path / "all", *given) == 0
    assert segment(torso["scan"], "-o", tmp_path / "some", *given, "--organs", "liver,kidneys") == 0
    wanted = ["liver", "left kidney", "right kidney"]
    rows = rows_of(tmp_path / "some" / "organs.csv")
    assert [row["organ"] for row in rows] == wanted
    assert rows == [row for row in rows_of(tmp_path / "all" / "organs.csv") if row["organ"] in wanted]
    segments, _ = read_segments(tmp_path / "some" / "organs.seg.nrrd", GEOMETRY)
    assert [one.name for one in segments] == wanted
    capsys.readouterr()
    for names, message in (("liver,toe", "--organs toe: no organ"), ("brain", "none of --organs brain")):
        assert segment(torso["scan"], "-o", tmp_path / "none", *given, "--organs", names) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_physiological_uptake_is_marked_and_both_totals_are_stated(torso, tmp_path, capsys):
    out = tmp_path / "out"
    given = ("--segmentation", torso["organs"], "--threshold", "percist")
    assert segment(torso["scan"], "-o", out, *given, "--lesions", torso["lesions"]) == 0
    printed = capsys.readouterr().out
    assert "in all: 5 parts" in printed and "without what is physiological: 2 parts" in printed
    rows = rows_of(out / "uptake.csv")
    marked = {row["organ"] for row in rows if row["mark"] == "physiological"}
    assert marked == {"urinary bladder", "left kidney", "right kidney"}
    assert len(rows) == 5  # the lesion in the liver is none of FDG's physiological uptake
    totals = summary_of(out)["uptake"]["totals"]
    for key, chosen in (
        ("all", rows),
        ("without_physiological", [row for row in rows if not row["mark"]]),
        ("physiological", [row for row in rows if row["mark"]]),
    ):
        assert totals[key]["count"] == len(chosen)
        for name in ("volume_ml", "tlg"):
            assert totals[key][name] == pytest.approx(sum(float(row[name]) for row in chosen))
    segments, _ = read_segments(out / "uptake.seg.nrrd", GEOMETRY)
    assert [one.name for one in segments] == [row["name"] for row in rows]
    suv, _organs, lesions = labeled_torso()
    threshold = summary_of(out)["uptake"]["threshold"]["suv"]
    for name, mask in lesions.items():  # nothing is taken away: each lesion is among the parts, whole
        of_lesion = [one for one in segments if (one.mask & mask).any()]
        assert len(of_lesion) == 1 and not (mask & ~of_lesion[0].mask).any(), name
    assert (suv[sum(one.mask for one in segments).astype(bool)] >= np.float32(threshold)).all()
    assert [one["name"] for one in summary_of(out)["lesions"]] == list(LESIONS)
    assert "Marked as physiological" in (out / "report.html").read_text()


def test_what_is_physiological_depends_on_the_tracer(torso, tmp_path):
    card = torso["scan"].with_name("pet.json")
    card.write_text(json.dumps({"Units": "SUV", "TracerName": "68Ga-PSMA-11"}))
    given = ("--segmentation", torso["organs"], "--threshold", "4", "--lesions", torso["lesions"])
    assert segment(torso["scan"], "-o", tmp_path / "out", *given) == 0
    notes = {one["name"]: one["note"] for one in summary_of(tmp_path / "out")["lesions"]}
    assert notes == {LESIONS[0]: "physiological, 100 % in liver", LESIONS[1]: ""}


def test_percist_falls_back_to_the_blood_pool_and_says_so(torso, tmp_path, capsys):
    _suv, organs, _lesions = labeled_torso()
    del organs["liver"]
    path = write_organs(tmp_path, organs)
    given = ("--segmentation", path, "--threshold")
    for way, folder in (("percist", "a"), ("blood-pool", "b")):
        assert segment(torso["scan"], "-o", tmp_path / folder, *given, way) == 0
    assert "the blood pool is the reference" in capsys.readouterr().err
    found, asked = summary_of(tmp_path / "a"), summary_of(tmp_path / "b")
    assert found["uptake"]["threshold"] == asked["uptake"]["threshold"]
    pool = asked["references"]["blood_pool"]
    assert asked["uptake"]["threshold"]["suv"] == pytest.approx(2 * pool["suv_mean"] + 2 * pool["suv_sd"])
    assert asked["uptake"]["threshold"]["method"] == "blood-pool"


def test_without_suv_there_are_organs_but_no_uptake(torso, tmp_path, capsys):
    given = ("--segmentation", torso["organs"], "--threshold", "percist", "--uncorrected")
    assert segment(torso["scan"], "-o", tmp_path / "out", *given) == 0
    assert "no uptake above a threshold" in capsys.readouterr().err
    found = summary_of(tmp_path / "out")
    assert found["uptake"] is None and found["references"] == {} and len(found["organs"]) == 6
    assert not (tmp_path / "out" / "uptake.csv").exists()


def dicom_torso(folder: Path, **header) -> Path:
    """The torso as a series in Bq/ml; SUV 1 is what its header's dose and weight say."""
    suv, _organs, _lesions = labeled_torso()
    header = {**VALID, "NumberOfSlices": len(suv), **header}
    write_series(
        folder, 5000.0 * suv, spacing=GEOMETRY.spacing[:2], positions=6.0, origin=GEOMETRY.origin, **header
    )
    return folder


def test_a_dicom_segmentation_has_sides_codes_colors_and_the_very_masks(torso, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    scan, out = dicom_torso(tmp_path / "series"), tmp_path / "out"
    assert segment(scan, "-o", out, "--segmentation", torso["organs"], "--dicom-seg") == 0
    path = out / "segmentation" / "segmentation.dcm"
    assert summary_of(out)["outputs"][-3] == "segmentation"
    seg, volume = highdicom.seg.segread(path), read_volume(scan)
    organs = labeled_torso()[1]
    numbers = {seg.get_segment_description(n).segment_label: n for n in seg.segment_numbers}
    assert sorted(numbers) == sorted(organs)
    sources = [pydicom.dcmread(file).SOPInstanceUID for file in volume.dicom_files]
    pixels = seg.get_pixels_by_source_instance(
        sources, ignore_spatial_locations=False, assert_missing_frames_are_empty=True
    )
    for name, number in numbers.items():
        one, item = by_name()[name], seg.SegmentSequence[number - 1]
        np.testing.assert_array_equal(pixels[..., number - 1], organs[name])
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        assert (kind.CodeValue, kind.CodeMeaning) == (one.code, one.meaning)
        sides = kind.get("SegmentedPropertyTypeModifierCodeSequence") or []
        assert [side.CodeValue for side in sides] == ([SIDE_CODES[one.side][0]] if one.side else [])
        assert item.SegmentedPropertyCategoryCodeSequence[0].CodeValue == DICOM_CATEGORY[0]
        shade = 0.85 if one.side == "right" else 1.0
        rgb = highdicom.color.CIELabColor.from_dicom_value(item.RecommendedDisplayCIELabValue).to_rgb()
        assert list(rgb) == pytest.approx([shade * part for part in one.color], abs=1.5)
    segments, notices = read_segments(path, volume.geometry, volume.frame_of_reference, volume.series_uid)
    assert notices == []
    assert all((one.mask == organs[one.name]).all() for one in segments)


def test_organs_are_coded_as_the_dicom_standard_names_them():
    standard = {(code.value, code.meaning.casefold()) for code in codes.cid7151.concepts.values()}
    assert {(one.code, one.meaning.casefold()) for one in classes()} <= standard
    # One class of men and women: a code of either organ would be wrong for the others.
    either = {codes.SCT.Prostate.value, codes.SCT.Uterus.value}
    assert either.isdisjoint(one.code for one in classes())


def test_a_checker_finds_nothing_in_a_models_dicom_segmentation(model, tmp_path):
    out = tmp_path / "out"
    scan = dicom_torso(tmp_path / "series")
    assert segment(scan, "-o", out, "--model", model, "--dicom-seg") == 0
    path = out / "segmentation" / "segmentation.dcm"
    item = pydicom.dcmread(path).SegmentSequence[0]
    assert item.SegmentAlgorithmType == "AUTOMATIC"
    assert summary_of(out)["model"]["sha256"][:12] in item.SegmentAlgorithmName
    assert complaints(path, "Segmentation", "Error", "Warning") == []


def test_a_dicom_segmentation_needs_a_dicom_series_and_no_suv(torso, tmp_path, capsys):
    given = ("--segmentation", torso["organs"], "--dicom-seg")
    assert segment(torso["scan"], "-o", tmp_path / "out", *given) == 2
    assert "no DICOM series" in capsys.readouterr().err and not (tmp_path / "out").exists()
    scan = dicom_torso(tmp_path / "series", PatientWeight=None, CorrectedImage=["DECY"])
    assert segment(scan, "-o", tmp_path / "out", *given) == 0
    found = summary_of(tmp_path / "out")
    assert found["suv"] is None and found["corrected_for_attenuation"] is False
    assert (tmp_path / "out" / "segmentation" / "segmentation.dcm").is_file()


def test_a_segmentation_without_an_organs_name_is_refused(torso, tmp_path, capsys):
    given = ("-o", tmp_path / "out", "--segmentation", torso["lesions"])
    assert segment(torso["scan"], *given) == 2
    assert "no segment has the name of an organ" in capsys.readouterr().err
    assert segment(torso["scan"], *given, "--model", "any") == 2
    assert "leave out one" in capsys.readouterr().err
    assert segment(torso["scan"], *given[:2], "--segmentation", torso["organs"], "--threshold", "hot") == 2
    assert "--threshold hot" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_percist_threshold_is_that_of_the_sphere(torso, tmp_path):
    assert segment(torso["scan"], "-o", tmp_path / "out", "--segmentation", torso["organs"]) == 0
    liver = summary_of(tmp_path / "out")["references"]["liver"]
    suv = read_volume(torso["scan"]).suv_array()
    sphere = Segment("s", liver_sphere(GEOMETRY, liver["center_lps_mm"]).mask)
    assert liver["threshold_suv"] == pytest.approx(percist_threshold(suv, sphere).suv)


def test_a_batch_labels_all_scans_and_leaves_out_what_is_done(torso, model, tmp_path, capsys):
    cohort, out = tmp_path / "cohort", tmp_path / "out"
    for name in ("a", "b"):
        write_torso(cohort / name)["organs"].unlink()
        (cohort / name / "lesions.seg.nrrd").unlink()
    (cohort / "c").mkdir()
    (cohort / "c" / "text.nii.gz").write_text("no image")
    options = ("--model", model, "--threshold", "4", "--resume")
    assert segment(cohort, "-o", out, *options) == 2
    printed = capsys.readouterr().out
    table = rows_of(out / "batch.csv")
    assert "3 scans: 2 done, 1 refused" in printed
    warned = [row["scan"] for row in table if row["warnings"]]
    assert f"\nwarnings in {len(warned)} of 3 scans, see batch.csv: {', '.join(warned)}\n" in printed
    assert [row["outcome"] for row in table] == ["done", "done", "refused"]
    assert table[0]["model"] == "organs" and int(table[0]["organs"]) > 0
    joined = rows_of(out / "organs.csv")
    assert list(joined[0]) == list(COLUMNS) and {row["scan"] for row in joined} == {"a", "b"}
    alone = tmp_path / "alone"
    assert segment(cohort / "a", "-o", alone, "--model", model, "--threshold", "4") == 0
    same = lambda rows: [{**row, "scan": ""} for row in rows]
    assert same(rows_of(alone / "organs.csv")) == same(rows_of(out / "a" / "organs.csv"))
    (cohort / "c" / "text.nii.gz").unlink()
    capsys.readouterr()
    assert segment(cohort, "-o", out, *options) == 0
    assert "2 skipped" in capsys.readouterr().out
    assert segment(cohort, "-o", out, *options[:3], "5", "--resume") == 0
    assert "2 done" in capsys.readouterr().out


def test_a_batch_takes_the_segmentation_of_each_scan(torso, tmp_path, capsys):
    cohort = tmp_path / "cohort"
    for name in ("a", "b"):
        write_torso(cohort / name)
    options = ("--match", "*/pet.nii.gz", "--segmentation", "{folder}/organs.seg.nrrd", "--jobs", "2")
    assert segment(cohort, "-o", tmp_path / "out", *options) == 0
    assert "2 scans: 2 done" in capsys.readouterr().out
    assert {row["organs"] for row in rows_of(tmp_path / "out" / "batch.csv")} == {"6"}


def test_a_scan_without_its_segmentation_is_refused_and_the_others_go_on(torso, tmp_path, capsys):
    cohort = tmp_path / "cohort"
    for name in ("a", "b"):
        write_torso(cohort / name)
    (cohort / "b" / "organs.seg.nrrd").unlink()
    options = ("--match", "*/pet.nii.gz", "--segmentation", "{folder}/organs.seg.nrrd")
    assert segment(cohort, "-o", tmp_path / "out", *options) == 2
    rows = rows_of(tmp_path / "out" / "batch.csv")
    assert [row["outcome"] for row in rows] == ["done", "refused"]
    assert "no segmentation of this name" in rows[1]["message"]
