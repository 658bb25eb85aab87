"""Strength: what is added of the residual, what says so, and another strength without the network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import drmc
import numpy as np
import pytest
import SimpleITK as sitk
from drmc.cli.main import main
from drmc.denoising import pipeline
from drmc.denoising.batch import run_batch
from drmc.denoising.request import LoadedModel
from drmc.errors import InputError
from drmc.imaging.files import read_image, write_image
from drmc.pet.reading import read_volume
from drmc.pet.strength import PRESETS
from drmc.runtime.progress import TerminalProgress
from support.engine.denoising_cases import FACTOR, request, rows_of, tree, write_case
from support.engine.synthetic_dicom import write_series

NUMBERS = ("lesions", "routing", "routing_lesions", "routing_nearest", "body", "thumbnails", "suv", "model")


def voxels(folder: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "denoised.nii.gz")))


@pytest.fixture
def activity(tmp_path: Path) -> dict[str, Path]:
    """The case in Bq/ml."""
    return write_case(tmp_path / "activity", factor=FACTOR)


def test_one_is_the_default_and_zero_gives_the_scan_back_bit_by_bit(models, activity, tmp_path):
    pipeline.run(request(activity, tmp_path / "default"))
    pipeline.run(request(activity, tmp_path / "one", strength=1.0))
    pipeline.run(request(activity, tmp_path / "zero", strength=0.0))
    assert voxels(tmp_path / "one").tobytes() == voxels(tmp_path / "default").tobytes()
    scan = read_volume(activity["low"]).array
    assert (scan == 0).any() and voxels(tmp_path / "zero").tobytes() == scan.tobytes()  # -0.0 included
    assert not np.array_equal(voxels(tmp_path / "one"), scan)


def test_between_them_the_residual_is_scaled_in_the_scan_s_own_units(models, activity, tmp_path):
    pipeline.run(request(activity, tmp_path / "half", strength=0.5))
    scan = read_volume(activity["low"])
    volume, result = drmc.denoise(scan, LoadedModel(request(activity, tmp_path)).load(), strength=0.5)
    assert voxels(tmp_path / "half").tobytes() == volume.array.tobytes()
    expected = scan.array.astype(np.float64) + 0.5 * result.residual.astype(np.float64) / FACTOR
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6, atol=1e-3)
    full, _ = drmc.denoise(scan, LoadedModel(request(activity, tmp_path)).load())
    assert not np.array_equal(full.array, volume.array)


def test_the_presets_are_named_and_the_default_is_one_of_them(models, case, tmp_path):
    assert PRESETS == {"low": 0.5, "standard": 0.75, "high": 1.0}
    model = LoadedModel(request(case, tmp_path)).load()
    scan = read_volume(case["low"])
    for name, number in PRESETS.items():
        by_name, by_number = (drmc.denoise(scan, model, strength=value)[0] for value in (name, number))
        assert by_name.array.tobytes() == by_number.array.tobytes()
    assert by_name.array.tobytes() == drmc.denoise(scan, model)[0].array.tobytes()


@pytest.mark.parametrize("value", ["1.01", "-0.1", "nan", "inf", "strong", ""])
def test_other_values_are_refused_in_one_line_and_nothing_is_written(models, case, tmp_path, capsys, value):
    command = ["denoise", str(case["low"]), "-o", str(tmp_path / "out"), f"--strength={value}"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"strength {value}: give a number from 0 to 1, or low" in said
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="from 0 to 1"):
        drmc.denoise(read_volume(case["low"]), "tiny", strength=value)


def test_summary_report_and_terminal_state_it(models, case, tmp_path, capsys):
    command = ["denoise", str(case["low"]), "-o", str(tmp_path / "out"), "--model", "tiny", "--device", "cpu"]
    assert main([*command, "--strength", "low"]) == 0
    assert "strength 0.5 (low)" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["strength"] == summary["settings"]["strength"] == 0.5
    page = (tmp_path / "out" / "report.html").read_text()
    assert "adds 50 % of a predicted residual" in page and "0.5 (low)" in page
    assert main(command) == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["strength"] == 1.0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "adds a predicted residual" in page and "1 (high)" in page


def test_the_table_and_the_comparison_are_those_of_the_scaled_image(models, case, tmp_path):
    with_all = {"lesions": case["lesions"], "reference": case["full"]}
    zero, half, one = (
        pipeline.run(request(case, tmp_path / str(s), strength=s, **with_all)) for s in (0.0, 0.5, 1.0)
    )
    means = [run["lesions"]["segments"][1]["suv_mean"] for run in (zero, half, one)]
    assert means[0] == zero["lesions"]["segments"][0]["suv_mean"]  # of the original
    assert means[1] == pytest.approx((means[0] + means[2]) / 2, rel=1e-6) and means[0] != means[2]
    assert zero["reference"]["psnr"]["denoised"] == zero["reference"]["psnr"]["original"]
    assert half["reference"]["psnr"]["denoised"] not in zero["reference"]["psnr"].values()


def test_a_dicom_series_states_it_where_a_viewer_looks(models, tmp_path):
    from pydicom import dcmread

    write_series(tmp_path / "pet")
    case = {"low": tmp_path / "pet"}
    for strength in (0.5, 1.0):
        pipeline.run(request(case, tmp_path / f"{strength:g}", format="dicom", strength=strength))
    half, one = (dcmread(next((tmp_path / name / "denoised").glob("*.dcm"))) for name in ("0.5", "1"))
    assert half.SeriesDescription.endswith("DRMC denoised, strength 0.5 - Research use")
    assert one.SeriesDescription.endswith("DRMC denoised - Research use")
    for slice_, text in ((half, "strength 0.5 (low)"), (one, "strength 1 (high)")):
        assert text in slice_.DerivationDescription and len(slice_.SeriesDescription) <= 64
        assert text in slice_.ImageComments
    assert read_volume(tmp_path / "0.5" / "denoised").suv.factor == read_volume(tmp_path / "pet").suv.factor


def test_in_a_batch_it_is_in_the_table_and_resume_knows_it(models, tmp_path):
    write_case(tmp_path / "cohort" / "p1")
    (tmp_path / "cohort" / "p1" / "full.nii.gz").unlink()
    (tmp_path / "cohort" / "p1" / "lesions.nii.gz").unlink()
    batch = replace(
        request({"low": tmp_path / "cohort"}, tmp_path / "out"), input=tmp_path / "cohort", strength=0.5
    )
    run_batch(batch, TerminalProgress(sys.stderr))
    (row,) = rows_of(tmp_path / "out" / "batch.csv")
    assert (row["outcome"], row["strength"]) == ("done", "0.5")
    assert run_batch(batch, TerminalProgress(sys.stderr), resume=True)["scans"][0]["outcome"] == "skipped"
    again = run_batch(replace(batch, strength=0.75), TerminalProgress(sys.stderr), resume=True)["scans"][0]
    assert again["outcome"] == "done" and "settings changed (strength)" in again["message"]


def test_a_result_that_is_measured_again_says_its_strength(models, case, tmp_path, capsys):
    pipeline.run(request(case, tmp_path / "out", strength=0.5, lesions=case["lesions"]))
    assert main(["quantify", str(tmp_path / "out"), "--lesions", str(case["lesions"]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert any("strength 0.5 (low)" in notice for notice in found["notices"])
    rows = [{key: row[key] for key in ("suv_mean", "suv_max", "suv_peak")} for row in found["segments"]]
    table = rows_of(tmp_path / "out" / "lesions.csv")
    assert [row["suv_mean"] for row in rows[:2]] == [float(row["suv_mean"]) for row in table[:2]]


# ---- another strength without the network


@pytest.mark.parametrize("form", ["series", "activity"])
def test_a_kept_residual_gives_the_same_result_without_the_network(
    models, activity, tmp_path, form, monkeypatch
):
    with_all = {"lesions": activity["lesions"], "reference": activity["full"]}
    case = activity
    if form == "series":
        write_series(tmp_path / "pet")
        case, with_all = {"low": tmp_path / "pet"}, {}
    pipeline.run(request(case, tmp_path / "run", keep_residual=True, **with_all))
    expected = pipeline.run(request(case, tmp_path / "direct", strength=0.75, **with_all))
    shutil.rmtree(tmp_path / "models")  # neither the network nor its weights are needed

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the network was run")

    monkeypatch.setattr("drmc.inference.denoiser.Denoiser.denoise", never)
    again = replace(request(case, tmp_path / "again", **with_all), model=None, strength=0.75)
    found = pipeline.run(replace(again, residual=tmp_path / "run"))
    assert voxels(tmp_path / "again").tobytes() == voxels(tmp_path / "direct").tobytes()
    assert {key: found[key] for key in NUMBERS} == {key: expected[key] for key in NUMBERS}
    assert found["reference"] == expected["reference"] and found["notices"] == expected["notices"]
    assert (found["fingerprint"], found["tiles"]) == (expected["fingerprint"], expected["tiles"])
    tables = [name for name in tree(tmp_path / "direct") if name.endswith(".csv")]
    assert "routing.csv" in tables
    for name in tables:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "direct" / name).read_bytes()


def test_a_residual_is_kept_on_request_only_and_in_place_it_stays(models, case, tmp_path):
    pipeline.run(request(case, tmp_path / "out"))
    assert not list((tmp_path / "out").glob("residual*"))
    pipeline.run(request(case, tmp_path / "out", keep_residual=True))
    first = voxels(tmp_path / "out")
    kept = {name: data for name, data in tree(tmp_path / "out").items() if name.startswith("residual")}
    assert sorted(kept) == ["residual.json", "residual.nii.gz"]
    for strength in (0.25, 1.0):
        summary = pipeline.run(
            request(case, tmp_path / "out", model=None, residual=tmp_path / "out", strength=strength)
        )
        assert summary["strength"] == strength and set(kept) < set(summary["outputs"])
        assert {name: tree(tmp_path / "out")[name] for name in kept} == kept
    assert voxels(tmp_path / "out").tobytes() == first.tobytes()


def test_the_residual_fits_its_own_scan_only(models, case, tmp_path):
    pipeline.run(request(case, tmp_path / "run", keep_residual=True))
    other = write_case(tmp_path / "other", seed=5)
    kept = tmp_path / "run"
    for changed, words in (
        (request(other, tmp_path / "out", model=None, residual=kept), "is not the scan of the residual"),
        (request(case, tmp_path / "out", model="tiny", residual=kept), "name no model"),
        (request(case, tmp_path / "out", model=None, residual=tmp_path), "--keep-residual"),
        (request(case, tmp_path / "out", model=None, residual=kept, suv_type="lbm"), "SUV"),
    ):
        with pytest.raises(InputError, match=words):
            pipeline.run(changed)
    with pytest.raises(InputError, match="--residual"):
        run_batch(
            replace(request(case, tmp_path / "out", model=None, residual=kept), input=tmp_path / "other"),
            TerminalProgress(sys.stderr),
        )
    (kept / "residual.json").write_text('{"scan": 3}')
    with pytest.raises(InputError, match="--keep-residual"):
        pipeline.run(request(case, tmp_path / "out", model=None, residual=kept))
    assert not (tmp_path / "out").exists()


def test_scan_and_residual_may_come_in_another_order_of_voxels(models, case, tmp_path):
    """As from a program that has turned them: the numbers are those of the run, to the last bit."""
    lesions = {"lesions": case["lesions"]}
    pipeline.run(request(case, tmp_path / "run", keep_residual=True, **lesions))
    expected = pipeline.run(request(case, tmp_path / "direct", strength=0.5, **lesions))
    flipped = tmp_path / "flipped"
    flipped.mkdir()
    for source, target in (
        (case["low"], "low.nii.gz"),
        (tmp_path / "run" / "residual.nii.gz", "residual.nii.gz"),
    ):
        sitk.WriteImage(sitk.Flip(read_image(source), (False, True, True)), str(flipped / target))
    shutil.copy(case["low"].with_name("low.json"), flipped / "low.json")
    shutil.copy(tmp_path / "run" / "residual.json", flipped / "residual.json")
    turned = {**case, "low": flipped / "low.nii.gz"}
    found = pipeline.run(
        request(turned, tmp_path / "again", model=None, residual=flipped, strength=0.5, **lesions), name="low"
    )
    assert found["lesions"]["segments"] == expected["lesions"]["segments"]
    assert found["routing_lesions"] == expected["routing_lesions"]
    assert voxels(tmp_path / "again").tobytes() == voxels(tmp_path / "direct").tobytes()


def test_a_residual_that_is_not_finite_is_refused_at_every_strength(models, case, tmp_path):
    pipeline.run(request(case, tmp_path / "run", keep_residual=True))
    image = read_image(tmp_path / "run" / "residual.nii.gz")
    array = sitk.GetArrayFromImage(image)
    array[9, 12, 15] = np.nan
    from drmc.imaging.geometry import Geometry

    write_image(tmp_path / "run" / "residual.nii.gz", array, Geometry.from_image(image))
    with pytest.raises(InputError, match="NaN"):
        pipeline.run(request(case, tmp_path / "out", model=None, residual=tmp_path / "run", strength=0.0))


def test_another_strength_loads_no_pytorch(models, case, tmp_path):
    pipeline.run(request(case, tmp_path / "run", keep_residual=True))
    options = ["--residual", str(tmp_path / "run"), "--strength", "0.5", "--lesions", str(case["lesions"])]
    command = ["denoise", str(case["low"]), "-o", str(tmp_path / "out"), *options]
    program = (
        "import sys; from drmc.cli.main import main\n"
        f"code = main({command!r})\n"
        "sys.exit(code or 3 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, again = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("run", "out"))
    assert first["versions"] == again["versions"]
