"""The one path from scan to denoised scan: what it writes, what it leaves alone, what a failure leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from drmc.denoising import batch_table, outputs, pipeline
from drmc.denoising.batch import run_batch
from drmc.denoising.finding import companions, find_scan, find_scans, is_batch
from drmc.denoising.request import DenoiseRequest
from drmc.denoising.staging import check_output_folder
from drmc.errors import CanceledError, DRMCError, InputError
from drmc.imaging.files import write_image
from drmc.models.weights import save_model
from drmc.pet.reading import read_volume
from drmc.report.page import write_report
from drmc.runtime.usage import peak_memory_bytes
from support.engine.denoising_cases import (
    FACTOR,
    GRID,
    INTERVAL_COLUMNS,
    LEAN_COLUMNS,
    LESION_COLUMNS,
    THRESHOLD_COLUMNS,
    lesion_mask,
    request,
    rows_of,
    suv_image,
    tiny_network,
    tree,
    write_case,
)
from support.engine.synthetic_dicom import write_series

LESION_SUV_COLUMNS = [
    "suv_rule",
    "suv_factor",
    "suv_warnings",
    *THRESHOLD_COLUMNS,
    *INTERVAL_COLUMNS,
    *LEAN_COLUMNS,
]
ROUTING_COLUMNS = "block,bank,expert,mean_gate,sd_gate,closed_fraction,top1_fraction".split(",")


# ---- one scan


def test_a_run_leaves_the_whole_contract_in_its_folder(models, case, tmp_path):
    output = tmp_path / "new" / "out"
    seen = []
    summary = pipeline.run(
        request(case, output, lesions=case["lesions"], reference=case["full"]),
        lambda *told: seen.append(told[:2]),
    )
    names = {"denoised.nii.gz", "denoised.json", "lesions.csv", "routing.csv", "report.html", "summary.json"}
    names |= {"routing_lesions.csv"}
    assert set(os.listdir(output)) == names == set(summary["outputs"])
    assert os.listdir(output.parent) == ["out"]

    with open(output / "lesions.csv", encoding="utf-8") as file:
        assert file.readline().strip().split(",") == [*LESION_COLUMNS, *LESION_SUV_COLUMNS]
    lesions = rows_of(output / "lesions.csv")
    assert [row["stage"] for row in lesions] == ["original", "denoised", "reference", "change_percent"]
    assert {row["scan"] for row in lesions} == {"low"}
    with open(output / "routing.csv", encoding="utf-8") as file:
        assert file.readline().strip().split(",") == ROUTING_COLUMNS
    assert len(rows_of(output / "routing.csv")) == len(summary["routing"]) == 4
    with open(output / "routing_lesions.csv", encoding="utf-8") as file:
        assert file.readline().strip().split(",") == ["segment", *ROUTING_COLUMNS]
    (segment, rows), *others = summary["routing_lesions"].items()
    written = rows_of(output / "routing_lesions.csv")
    assert others == [] and {row["segment"] for row in written} == {segment}
    assert [float(row["mean_gate"]) for row in written] == [row["mean_gate"] for row in rows]
    assert f"<h3>{segment}</h3>" in (output / "report.html").read_text()

    assert json.loads((output / "summary.json").read_text()) == summary
    assert {"factor", "type", "rule", "candidates", "notices", "warnings"} <= set(summary["suv"])
    assert summary["model"]["name"] == "tiny" and len(summary["model"]["sha256"]) == 64
    assert summary["device"] == "cpu" and summary["precision"] == "fp32"
    assert {"read", "denoise", "quantify", "write", "report", "total"} <= set(summary["seconds"])
    assert summary["seconds"]["total"] >= summary["seconds"]["denoise"]
    assert 50e6 < summary["peak_memory_bytes"] < 50e9
    assert {"drmc", "python", "torch", "SimpleITK", "numpy", "pydicom"} <= set(summary["versions"])
    assert seen[-1] == (summary["tiles"]["count"],) * 2 and seen == sorted(seen)
    assert "esearch use only" in (output / "report.html").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands the figure on to a child")
def test_peak_memory_is_that_of_the_process_and_not_of_a_large_parent():
    held = np.ones(800_000_000 // 8)  # more than the child needs to import what it asks
    code = "from drmc.runtime.usage import peak_memory_bytes; print(peak_memory_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 20e6 < int(done.stdout) < 500e6 < held.nbytes < peak_memory_bytes()


def test_denoised_is_scan_plus_residual_and_air_keeps_its_bits(models, case, tmp_path):
    pipeline.run(request(case, tmp_path / "out"))
    low, denoised = read_volume(case["low"]), read_volume(tmp_path / "out" / "denoised.nii.gz")
    assert denoised.geometry.matches(low.geometry, 1e-4)
    assert denoised.array.dtype == np.float32
    body = lesion_mask()
    assert (denoised.array[body] != low.array[body]).all()

    pipeline.run(request(case, tmp_path / "zero", model="zero"))
    same = read_volume(tmp_path / "zero" / "denoised.nii.gz")
    assert same.array.tobytes() == low.array.tobytes()  # -0.0 included


def test_bq_per_ml_goes_out_as_it_came_and_reads_back_with_its_factor(models, tmp_path):
    suv = write_case(tmp_path / "suv")
    activity = write_case(tmp_path / "activity", factor=FACTOR)
    pipeline.run(request(suv, tmp_path / "a"))
    summary = pipeline.run(request(activity, tmp_path / "b"))
    assert summary["input"]["units"] == "BQML" and summary["suv"]["factor"] == FACTOR
    first, second = (read_volume(tmp_path / out / "denoised.nii.gz") for out in "ab")
    assert (second.units, second.suv.factor) == ("BQML", FACTOR)
    np.testing.assert_allclose(second.suv_array(), first.array, rtol=2e-5, atol=2e-5)


def test_suv_stored_in_dicom_reads_back_as_suv(models, tmp_path):
    write_series(tmp_path / "series", suv_image(), Units="GML")
    pipeline.run(DenoiseRequest(tmp_path / "series", tmp_path / "out", model="tiny", device="cpu"))
    denoised = read_volume(tmp_path / "out" / "denoised.nii.gz")
    assert (denoised.units, denoised.suv.factor, denoised.suv.type) == ("SUV", 1.0, "SUVbw")


def test_a_factor_per_slice_reads_back_per_slice(models, tmp_path):
    header = {"DecayCorrection": "NONE", "CorrectedImage": ["ATTN"], "AcquisitionTime": "11{:02d}00".format}
    write_series(tmp_path / "series", suv_image() * 5000.0, **header)
    pipeline.run(DenoiseRequest(tmp_path / "series", tmp_path / "out", model="zero", device="cpu"))
    scan = read_volume(tmp_path / "series")
    again = read_volume(tmp_path / "out" / "denoised.nii.gz")
    assert len(set(scan.suv.factor_per_slice)) == GRID.shape[0]
    assert again.suv.factor_per_slice == scan.suv.factor_per_slice
    np.testing.assert_array_equal(again.array, scan.array)


def test_counts_are_refused_on_reading_back_rather_than_misread(models, tmp_path):
    write_series(tmp_path / "series", suv_image() * 50.0, Units="CNTS", PhilipsSUVScaleFactor=0.02)
    pipeline.run(DenoiseRequest(tmp_path / "series", tmp_path / "out", model="zero", device="cpu"))
    with pytest.raises(InputError, match=r"denoised\.json"):
        read_volume(tmp_path / "out" / "denoised.nii.gz")
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "denoised.nii.gz")))
    np.testing.assert_array_equal(image, read_volume(tmp_path / "series").array)


def test_the_table_holds_what_the_written_image_holds(models, case, tmp_path):
    from drmc.measures.lesions import segment_statistics
    from drmc.segments.reading import read_segments

    summary = pipeline.run(request(case, tmp_path / "out", lesions=case["lesions"]))
    denoised = read_volume(tmp_path / "out" / "denoised.nii.gz")
    segments, _ = read_segments(case["lesions"], denoised.geometry)
    again = segment_statistics(denoised.suv_array(), segments[0].mask, denoised.geometry.spacing_zyx)
    row = next(row for row in summary["lesions"]["segments"] if row["stage"] == "denoised")
    assert {key: row[key] for key in again} == again
    assert row["suv_max"] == float(denoised.array[lesion_mask()].max())


def test_the_same_scan_gives_the_same_bytes(models, case, tmp_path):
    for name in "ab":
        pipeline.run(request(case, tmp_path / name, lesions=case["lesions"]))
    for name in ("denoised.nii.gz", "denoised.json", "lesions.csv", "routing.csv", "routing_lesions.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_reference_is_compared_in_the_body(models, case, tmp_path):
    reference = pipeline.run(
        request(case, tmp_path / "out", lesions=case["lesions"], reference=case["full"], model="zero")
    )["reference"]
    low, full = (read_volume(case[name]).array.astype(np.float64) for name in ("low", "full"))
    from drmc.imaging.body import body_mask

    body = body_mask(full.astype(np.float32), GRID.spacing_zyx)
    assert reference["voxels"] == body.sum() and reference["data_range"] == 20.0
    expected = 10 * np.log10(400.0 / np.mean((low - full)[body] ** 2))
    assert reference["psnr"]["original"] == pytest.approx(expected, abs=1e-6)
    assert reference["psnr"]["denoised"] == reference["psnr"]["original"]
    patient = reference["lesions"]["patient"]
    ball = lesion_mask()
    bias = abs(low[ball].max() - full[ball].max()) / full[ball].max()
    assert patient["original"]["B_max"] == pytest.approx(bias, rel=1e-6)
    assert set(reference["nrmse"]) == set(reference["ssim"]) == {"original", "denoised"}


def test_an_identical_reference_is_no_trouble_for_json(models, case, tmp_path):
    summary = pipeline.run(request(case, tmp_path / "out", reference=case["low"], model="zero"))
    assert summary["reference"]["psnr"] == {"original": None, "denoised": None}  # infinite


def test_a_second_run_takes_away_what_the_first_left_and_nothing_else(models, case, tmp_path):
    output = tmp_path / "out"
    pipeline.run(request(case, output, lesions=case["lesions"]))
    (output / "notes.txt").write_text("mine")
    pipeline.run(request(case, output, format="nrrd"))
    assert sorted(os.listdir(output)) == [
        "denoised.json", "denoised.nrrd", "notes.txt", "report.html", "routing.csv", "summary.json",
    ]  # fmt: skip
    assert read_volume(output / "denoised.nrrd").units == "SUV"


# ---- nothing half-written


@pytest.mark.parametrize("existing", [False, True], ids=["new folder", "earlier results"])
@pytest.mark.parametrize("moment", ["report", "move"])
def test_a_failure_leaves_the_output_folder_as_it_was(models, case, tmp_path, monkeypatch, existing, moment):
    output = tmp_path / "deep" / "out"
    if existing:
        pipeline.run(request(case, output, lesions=case["lesions"], model="zero"))
    before = tree(tmp_path)
    if moment == "report":

        def fail(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pipeline, "write_report", fail)
    else:
        real = os.replace

        def fail_on_routing(source, target):
            if Path(target) == output / "routing.csv" and "aside" not in str(source):
                raise OSError(28, "No space left on device")
            real(source, target)

        monkeypatch.setattr(outputs.os, "replace", fail_on_routing)
    with pytest.raises(OSError, match="No space"):
        pipeline.run(request(case, output, lesions=case["lesions"]))
    assert tree(tmp_path) == before
    assert output.exists() == output.parent.exists() == existing


def test_cancel_stops_between_tiles_and_leaves_nothing(models, case, tmp_path):
    before = tree(tmp_path)
    done = []
    with pytest.raises(CanceledError):
        pipeline.run(request(case, tmp_path / "out"), lambda *told: done.append(told), lambda: len(done) > 1)
    assert 2 <= len(done) < done[0][1]
    assert tree(tmp_path) == before and not (tmp_path / "out").exists()


def test_cancel_after_the_last_tile_still_leaves_nothing(models, case, tmp_path, monkeypatch):
    asked = []
    real = write_report

    def write_and_cancel(*arguments, **keywords):
        real(*arguments, **keywords)
        asked.append(True)

    monkeypatch.setattr(pipeline, "write_report", write_and_cancel)
    with pytest.raises(CanceledError):
        pipeline.run(request(case, tmp_path / "out"), None, lambda: bool(asked))
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:overflow")
def test_values_that_are_not_finite_are_never_written(models, case, tmp_path):
    network = tiny_network()
    with torch.no_grad():
        network.tail.bias.fill_(1e38)  # finite weights, but 20 times that is not
    save_model(models / "wild.pt", network, 16)
    with pytest.raises(DRMCError, match="not finite"):
        pipeline.run(request(case, tmp_path / "out", model="wild"))
    assert not (tmp_path / "out").exists()


# ---- refusals


def test_no_input_is_ever_written_over(models, case, tmp_path):
    output = tmp_path / "out"
    pipeline.run(request(case, output))
    before = tree(output)
    again = DenoiseRequest(output / "denoised.nii.gz", output, model="tiny", device="cpu")
    with pytest.raises(InputError, match="written over the input"):
        pipeline.run(again)
    with pytest.raises(InputError, match="written over the input"):
        pipeline.run(request(case, output, reference=output / "denoised.nii.gz"))
    assert tree(output) == before
    # In another form it is not in the way, and the earlier image, now the input, stays.
    pipeline.run(replace(again, format="nrrd"))
    assert (output / "denoised.nii.gz").read_bytes() == before["denoised.nii.gz"]


def test_the_output_may_not_lie_in_an_input_folder(models, tmp_path):
    folder = tmp_path / "scans"
    write_case(folder / "a")
    with pytest.raises(InputError, match="lies in the input"):
        check_output_folder(folder / "a" / "out", [folder])
    check_output_folder(tmp_path / "out", [folder, folder / "a" / "low.nii.gz"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"format": "analyze"},
        {"format": "dicom"},
        {"tile_batch": 0},
        {"model": "unknown"},
        {"device": "abacus"},
        {"precision": "fp8"},
    ],
    ids=str,
)
def test_what_is_asked_for_and_not_to_be_had_is_refused(models, case, tmp_path, change):
    with pytest.raises(InputError):
        pipeline.run(request(case, tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


def test_a_reference_on_another_grid_is_refused(models, case, tmp_path):
    shifted = tmp_path / "shifted.nii.gz"
    write_image(shifted, suv_image(), replace(GRID, origin=(6.0, -60.0, 70.0)))
    (tmp_path / "shifted.json").write_text('{"Units": "SUV"}')
    with pytest.raises(InputError, match="not on the scan's grid"):
        pipeline.run(request(case, tmp_path / "out", reference=shifted))
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_seen_before_the_work(models, case, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs.shutil, "disk_usage", lambda path: SimpleNamespace(free=1024))
    with pytest.raises(InputError, match="MiB free"):
        pipeline.run(request(case, tmp_path / "out"), progress=lambda *_: pytest.fail("denoised"))
    assert not (tmp_path / "out").exists()


# ---- many scans


class Listener:
    """Remembers what a batch says."""

    def __init__(self):
        self.started, self.ended = [], []

    def scan(self, name, index, count):
        """A scan starts."""
        self.started.append((name, index, count))

    def progress(self, done, total, seconds_left, counted):
        """Tiles."""

    def outcome(self, scan, outcome, message):
        """A scan has ended."""
        self.ended.append((scan, outcome))


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Two good scans and one with a voxel that is no number."""
    folder = tmp_path / "cohort"
    folder.mkdir()
    for seed, name in enumerate(("p1", "p2", "p3")):
        image = suv_image(seed=seed)
        if name == "p2":
            image[9, 9, 9] = np.nan
        write_image(folder / f"{name}.nrrd", image, GRID, metadata={"units": "SUV"})
    (folder / "readme.txt").write_text("not a scan")
    segmentations = tmp_path / "segmentations"
    segmentations.mkdir()
    for name in ("p1", "p3"):
        write_image(segmentations / f"{name}.nii.gz", lesion_mask(), GRID)
    return folder


def test_in_a_batch_a_refused_scan_does_not_stop_the_others(models, cohort, tmp_path):
    listener = Listener()
    batch = DenoiseRequest(
        cohort, tmp_path / "out", model="tiny", device="cpu", lesions=tmp_path / "segmentations"
    )
    result = run_batch(batch, listener)
    assert result["exit_code"] == 2 and result["counts"] == {"done": 2, "refused": 1}
    assert listener.started == [("p1", 1, 3), ("p2", 2, 3), ("p3", 3, 3)]
    assert listener.ended == [("p1", "done"), ("p2", "refused"), ("p3", "done")]
    assert sorted(os.listdir(tmp_path / "out")) == ["batch.csv", "cohort.html", "lesions.csv", "p1", "p3"]
    rows = rows_of(tmp_path / "out" / "batch.csv")
    assert [row["outcome"] for row in rows] == ["done", "refused", "done"]
    assert list(rows[0]) == list(batch_table.COLUMNS) and "NaN" in rows[1]["message"]
    lesions = rows_of(tmp_path / "out" / "lesions.csv")
    assert [row["scan"] for row in lesions] == ["p1"] * 3 + ["p3"] * 3
    assert list(lesions[0]) == [*LESION_COLUMNS, *LESION_SUV_COLUMNS]

    alone = DenoiseRequest(cohort / "p3.nrrd", tmp_path / "alone", model="tiny", device="cpu")
    pipeline.run(alone)
    image = "denoised.nii.gz"
    assert (tmp_path / "alone" / image).read_bytes() == (tmp_path / "out" / "p3" / image).read_bytes()


def test_a_scan_without_lesions_is_denoised_and_says_so(models, cohort, tmp_path):
    (cohort / "p2.nrrd").unlink()
    (tmp_path / "segmentations" / "p1.nii.gz").unlink()
    batch = DenoiseRequest(
        cohort,
        tmp_path / "out",
        model="tiny",
        device="cpu",
        lesions=tmp_path / "segmentations" / "{name}.nii.gz",
    )
    assert run_batch(batch, Listener())["exit_code"] == 0
    rows = rows_of(tmp_path / "out" / "batch.csv")
    assert "no lesions" in rows[0]["message"] and rows[1]["message"] == ""
    assert {row["scan"] for row in rows_of(tmp_path / "out" / "lesions.csv")} == {"p3"}
    run_batch(replace(batch, lesions=None), Listener())
    assert not (tmp_path / "out" / "lesions.csv").exists()  # those of another batch would mislead


def test_resume_does_only_what_is_missing(models, cohort, tmp_path):
    (cohort / "p2.nrrd").unlink()
    batch = DenoiseRequest(cohort, tmp_path / "out", model="tiny", device="cpu")
    assert run_batch(batch, Listener())["exit_code"] == 0
    (tmp_path / "out" / "p3" / "report.html").unlink()
    listener = Listener()
    assert run_batch(batch, listener, resume=True)["exit_code"] == 0
    assert listener.ended == [("p1", "skipped"), ("p3", "done")]
    # Another model is another result, and so are lesions that were not measured before.
    listener = Listener()
    run_batch(replace(batch, model="zero"), listener, resume=True)
    assert listener.ended == [("p1", "done"), ("p3", "done")]
    listener = Listener()
    lesions = tmp_path / "segmentations"
    run_batch(replace(batch, model="zero", lesions=lesions), listener, resume=True)
    assert listener.ended == [("p1", "done"), ("p3", "done")]


def test_an_unforeseen_fault_fails_one_scan_and_cancel_keeps_what_is_done(
    models, cohort, tmp_path, monkeypatch
):
    real = pipeline.run

    def run(request, *arguments, **keywords):
        if keywords["name"] == "p1":
            raise ZeroDivisionError("a fault\nof two lines")
        if keywords["name"] == "p3":
            raise CanceledError()
        return real(request, *arguments, **keywords)

    monkeypatch.setattr(pipeline, "run", run)
    write_image(cohort / "p2.nrrd", suv_image(), GRID, metadata={"units": "SUV"})
    result = run_batch(DenoiseRequest(cohort, tmp_path / "out", model="tiny", device="cpu"), Listener())
    rows = rows_of(tmp_path / "out" / "batch.csv")
    assert [row["outcome"] for row in rows] == ["failed", "done", "cancelled"]
    assert rows[0]["message"] == "ZeroDivisionError: a fault of two lines"
    assert result["exit_code"] == 130
    assert (tmp_path / "out" / "p2" / "summary.json").is_file()


@pytest.mark.parametrize("lesions", ["nowhere", "{name}.nrrd"])
def test_lesions_that_fit_no_scan_are_a_mistake(models, cohort, tmp_path, lesions):
    batch = DenoiseRequest(cohort, tmp_path / "out", model="tiny", lesions=tmp_path / lesions)
    with pytest.raises(InputError, match="--lesions"):
        run_batch(batch, Listener())
    assert not (tmp_path / "out").exists()


# ---- what is a scan, what is a batch


def test_scans_are_found_by_what_folders_hold(tmp_path, cohort):
    assert is_batch(cohort)
    assert list(find_scans(cohort)) == ["p1", "p2", "p3"]
    nested = tmp_path / "study"
    write_image(_made(nested / "a" / "b") / "pet.nrrd", suv_image(), GRID)
    assert not is_batch(nested)
    assert find_scan(nested) == nested / "a" / "b" / "pet.nrrd"
    write_image(nested / "pet.seg.nrrd", lesion_mask(), GRID)
    assert find_scan(nested) == nested / "a" / "b" / "pet.nrrd"
    write_image(nested / "a" / "other.mha", suv_image(), GRID)
    assert is_batch(nested)
    with pytest.raises(InputError, match="several scans"):
        find_scan(nested)
    for find in (find_scan, find_scans):
        with pytest.raises(InputError, match="no such file"):
            find(tmp_path / "missing")


def test_a_pattern_names_the_scans_of_a_data_set_and_their_companions(tmp_path):
    folder = tmp_path / "dataset"
    for patient in ("C1-1", "C1-2"):
        write_case(folder / "C1" / patient)
    scans = find_scans(folder, "*/*/low.nii.gz")
    assert list(scans) == ["C1_C1-1_low", "C1_C1-2_low"]
    lesions = companions("{folder}/lesions.nii.gz", scans, "--lesions")
    assert lesions["C1_C1-2_low"] == folder / "C1" / "C1-2" / "lesions.nii.gz"
    for pattern in ("/etc/*", "../*", "", ".", "**x", "nothing*"):
        with pytest.raises(InputError, match="--match"):
            find_scans(folder, pattern)


def test_no_two_scans_of_a_batch_share_a_name(tmp_path):
    for path in ("a.nrrd", "a.mha", "a/b.nrrd", "a_b.nrrd"):
        write_image(_made((tmp_path / path).parent) / Path(path).name, suv_image(), GRID)
    names = find_scans(tmp_path, "**/*.*")
    assert sorted(names) == ["a", "a-2", "a_b", "a_b-2"] and len(set(names.values())) == 4


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
