"""Batches: values by hand for one scan each, resuming by content, table and page, several processes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from drmc.cli.main import main
from drmc.denoising import batch, batch_table, cohort_page, header_table, pipeline, staging
from drmc.denoising.batch import run_batch
from drmc.denoising.finding import find_scans
from drmc.denoising.request import DenoiseRequest
from drmc.errors import InputError
from drmc.imaging.body import body_mask
from drmc.imaging.files import write_image
from drmc.measures.body_change import noise
from drmc.models.card import add_to_card
from drmc.models.registry import find_model
from drmc.models.weights import save_model
from drmc.pet.reading import read_volume
from drmc.runtime.progress import JsonProgress, TerminalProgress
from support.engine.denoising_cases import GRID, lesion_mask, suv_image, tiny_network
from support.engine.synthetic_dicom import write_series

EXACT = ("--device", "cpu", "--precision", "fp32")
pytestmark = pytest.mark.usefixtures("models")


class Listener:
    """Remembers outcomes and what is left of the batch."""

    def __init__(self):
        self.ended, self.left = [], []

    def scan(self, name, index, count):
        """A scan starts."""

    def progress(self, done, total, seconds_left, counted):
        """Tiles."""

    def outcome(self, scan, outcome, message):
        """A scan has ended."""
        self.ended.append((scan, outcome, message))

    def batch(self, done, total, seconds_left):
        """Scans of the batch."""
        self.left.append((done, total, seconds_left))


def dicom_cohort(folder: Path, names=("a", "b", "c"), **header) -> Path:
    for index, name in enumerate(names):
        write_series(
            folder / name,
            suv_image(seed=index) * 4000.0,
            spacing=GRID.spacing[:2],
            positions=GRID.spacing[2],
            **header,
        )
    return folder


def nrrd_cohort(folder: Path, names=("p1", "p2", "p3")) -> Path:
    folder.mkdir()
    for seed, name in enumerate(names):
        write_image(folder / f"{name}.nrrd", suv_image(seed=seed), GRID, metadata={"units": "SUV"})
    return folder


def asked(folder: Path, output: Path, **options) -> DenoiseRequest:
    return DenoiseRequest(folder, output, device="cpu", precision="fp32", **options)


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return {row["scan"]: row for row in csv.DictReader(file)}


# ---- values by hand


def test_one_value_for_all_scans_is_refused_before_anything_is_computed(tmp_path, capsys):
    cohort = dicom_cohort(tmp_path / "in")
    arguments = ["denoise", str(cohort), "-o", str(tmp_path / "out"), *EXACT]
    assert main([*arguments, "--header", "PatientWeight=50"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "--headers TABLE.csv" in line and "all 3 scans" in line
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="give --headers TABLE"):
        run_batch(asked(cohort, tmp_path / "out", header={"PatientWeight": "50"}), Listener())


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_gives_each_scan_its_own_values(tmp_path, capsys, separator):
    cohort = dicom_cohort(tmp_path / "in")
    dicom_cohort(tmp_path / "in" / "deep", ("d",))
    table = tmp_path / "headers.csv"
    lines = ["scan,PatientWeight,PatientSize", "a,50,", "b,,1.6", "deep,90,"]
    table.write_text("\ufeff" + "\n".join(lines).replace(",", separator) + "\n\n", encoding="utf-8")
    output = tmp_path / "out"
    arguments = ["denoise", str(cohort), "-o", str(output), "--headers", str(table), *EXACT]
    assert main(arguments) == 0, capsys.readouterr().err
    rows = rows_of(output / "batch.csv")
    assert {name: float(row["weight_kg"]) for name, row in rows.items()} == {
        "a": 50,
        "b": 70,
        "c": 70,
        "deep": 90,
    }
    assert "PatientWeight given by hand: 50 kg" in rows["a"]["warnings"]
    assert "PatientSize given by hand" in rows["b"]["warnings"] and rows["c"]["warnings"] == ""
    factor = read_volume(cohort / "a", header={"PatientWeight": "50"}).suv.factor
    assert float(rows["a"]["factor"]) == factor != float(rows["c"]["factor"])
    # Another value is another result; the other scans stay.
    table.write_text("scan,PatientWeight\na,55\nb,\ndeep,90\n")
    assert main([*arguments, "--resume"]) == 0
    rows = rows_of(output / "batch.csv")
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "a": "done",
        "b": "done",
        "c": "skipped",
        "deep": "skipped",
    }
    assert "settings changed (header)" in rows["a"]["message"] and float(rows["a"]["weight_kg"]) == 55


def test_a_scan_is_named_by_its_path_too(tmp_path):
    cohort = nrrd_cohort(tmp_path / "in")
    table = tmp_path / "t.csv"
    table.write_text("PatientWeight,scan\n60,p2.nrrd\n")
    assert header_table.read(table, find_scans(cohort), cohort) == {"p2": {"PatientWeight": "60"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scan,PatientWeight\nz,50\n", "'z' is no scan of this batch"),
        ("scan,PatientMass\na,50\n", "'PatientMass'"),
        ("scan,PatientWeight\na,50\na,60\n", "has a row already"),
        ("scan,PatientWeight,PatientWeight\na,50,60\n", "is there twice"),
        ("scan,PatientWeight\na,fifty\n", "line 2: PatientWeight=fifty: write a positive number"),
        ("scan,PatientWeight\na,-5\n", "write a positive number"),
        ("scan,PatientWeight\na\n", "1 cells for 2 columns"),
        ("name,PatientWeight\na,50\n", "no column 'scan'"),
        ("", "no column 'scan'"),
    ],
)
def test_a_wrong_table_is_refused_before_anything_is_computed(tmp_path, capsys, text, said):
    cohort = dicom_cohort(tmp_path / "in", ("a", "b"))
    table = tmp_path / "headers.csv"
    table.write_text(text)
    arguments = ["denoise", str(cohort), "-o", str(tmp_path / "out"), "--headers", str(table), *EXACT]
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert said in line and str(table) in line and line.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_a_batch_takes_is_refused_for_one_scan(tmp_path, capsys):
    scan = dicom_cohort(tmp_path / "in", ("a",)) / "a"
    for option, value in (("--headers", "t.csv"), ("--jobs", "2")):
        assert main(["denoise", str(scan), "-o", str(tmp_path / "out"), option, value, *EXACT]) == 2
        assert f"{option}: is for a batch" in capsys.readouterr().err


# ---- resuming by content


def test_resume_compares_content_and_says_what_changed(tmp_path, models):
    cohort, output = nrrd_cohort(tmp_path / "in"), tmp_path / "out"
    lesions, references = tmp_path / "lesions", tmp_path / "full"
    lesions.mkdir()
    references.mkdir()
    for name in ("p1", "p2", "p3"):
        write_image(lesions / f"{name}.nii.gz", lesion_mask(), GRID)
        write_image(references / f"{name}.nrrd", suv_image(seed=9), GRID, metadata={"units": "SUV"})

    def again(**options):
        listener = Listener()
        request = asked(cohort, output, lesions=lesions, reference=references, **options)
        run_batch(request, listener, resume=True)
        return {scan: (outcome, message) for scan, outcome, message in listener.ended}

    assert {outcome for outcome, _ in again().values()} == {"done"}
    assert set(again().values()) == {("skipped", "")}
    # A lesion file that has changed, under the same name and at the same time of change.
    smaller = lesion_mask() & (np.arange(GRID.shape[2]) < 15)
    path = lesions / "p2.nii.gz"
    stat = path.stat()
    write_image(path, smaller, GRID)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    found = again()
    assert found["p2"] == ("done", "computed again: lesions changed")
    assert found["p1"] == found["p3"] == ("skipped", "")
    summary = json.loads((output / "p2" / "summary.json").read_text())
    volume = summary["lesions"]["segments"][0]["volume_ml"]
    assert volume == pytest.approx(smaller.sum() * GRID.voxel_ml)
    # The reference, the scan, a setting, the model.
    write_image(references / "p1.nrrd", suv_image(seed=10), GRID, metadata={"units": "SUV"})
    assert again()["p1"] == ("done", "computed again: reference changed")
    write_image(cohort / "p3.nrrd", suv_image(seed=11), GRID, metadata={"units": "SUV"})
    assert again()["p3"] == ("done", "computed again: the scan's files changed")
    assert {text for _, text in again(format="nrrd").values()} == {
        "computed again: settings changed (format)"
    }
    add_to_card(find_model("tiny"), {"title": "renamed"})  # as a calibration or a profile does
    assert {text for _, text in again(format="nrrd").values()} == {"computed again: the model's card changed"}
    assert set(again(format="nrrd").values()) == {("skipped", "")}
    save_model(models / "tiny.pt", tiny_network(zero_tail=True), 16, {"default": True})
    assert {text for _, text in again(format="nrrd").values()} == {"computed again: model changed"}


def test_resume_sees_a_changed_side_car_and_a_touched_file_is_the_same(tmp_path):
    cohort, output = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b"):
        (cohort / name).mkdir(parents=True)
        write_image(cohort / name / "pet.nii.gz", suv_image() / 0.25, GRID)
        card = {"Units": "Bq/mL", "SUVFactor": 0.25}
        (cohort / name / "pet.json").write_text(json.dumps(card))
    run_batch(asked(cohort, output), Listener())
    (cohort / "a" / "pet.json").write_text(json.dumps({"Units": "Bq/mL", "SUVFactor": 0.26}))
    (cohort / "b" / "pet.nii.gz").touch()
    listener = Listener()
    run_batch(asked(cohort, output), listener, resume=True)
    assert [said[1] for said in listener.ended] == ["done", "skipped"]
    # A result of an earlier version has no fingerprint: nobody knows what it was made from.
    path = output / "b" / "summary.json"
    summary = json.loads(path.read_text())
    del summary["fingerprint"]
    path.write_text(json.dumps(summary))
    listener = Listener()
    run_batch(asked(cohort, output), listener, resume=True)
    assert listener.ended[1] == ("b", "done", "computed again: made without a fingerprint")


# ---- table, page, time left


def test_the_table_tells_the_facts_behind_the_columns_that_were_there(tmp_path):
    cohort, output = dicom_cohort(tmp_path / "in", ("a", "b")), tmp_path / "out"
    (cohort / "broken").mkdir()
    (cohort / "broken" / "IM.dcm").write_bytes(b"no")
    run_batch(asked(cohort, output), Listener())
    rows = rows_of(output / "batch.csv")
    columns = list(rows["a"])
    assert columns == list(batch_table.COLUMNS)
    assert columns[:7] == ["scan", "outcome", "seconds", "input", "output", "message", "warnings"]
    row = rows["a"]
    assert (float(row["weight_kg"]), float(row["dose_mbq"]), float(row["uptake_min"])) == (70.0, 370.0, 60.0)
    assert (row["tracer"], row["suv_type"], row["rule"], row["model"]) == ("FDG", "SUVbw", "ST", "tiny")
    assert float(row["factor"]) == read_volume(cohort / "a").suv.factor
    summary = json.loads((output / "a" / "summary.json").read_text())
    before, after = (
        read_volume(path).suv_array() for path in (cohort / "a", output / "a" / "denoised.nii.gz")
    )
    body = body_mask(before, read_volume(cohort / "a").geometry.spacing_zyx)
    change = 100 * (after[body].mean(dtype=float) / before[body].mean(dtype=float) - 1)
    assert summary["body"]["mean_change_percent"] == pytest.approx(change, abs=1e-3)
    assert float(row["body_mean_change_percent"]) == pytest.approx(change, abs=1e-3)
    assert rows["broken"]["outcome"] == "refused" and rows["broken"]["weight_kg"] == ""


def test_the_cohort_page_shows_every_scan_and_outliers_first(tmp_path):
    cohort, output = dicom_cohort(tmp_path / "in", ("a", "b")), tmp_path / "out"
    dicom_cohort(tmp_path / "in", ("heavy <i>",), PatientWeight=320.0)
    (cohort / "none").mkdir()
    (cohort / "none" / "IM.dcm").write_bytes(b"no")
    run_batch(asked(cohort, output), Listener())
    page = (output / "cohort.html").read_text(encoding="utf-8")
    places = [page.index(f"<h2>{name}</h2>") for name in ("none", "heavy &lt;i&gt;", "a", "b")]
    assert places == sorted(places) and "<i>" not in page
    assert "4 scans" in page and "3 done, 1 refused. 2 to be looked at" in page
    assert page.count("data:image/png;base64,") == 6 and "http" not in page and "<script" not in page
    assert 'href="a/report.html"' in page and 'href="heavy%20%3Ci%3E/report.html"' in page
    assert "320 kg" in page and "FDG" in page and "Research use only" in page


def test_robust_z_finds_the_one_that_is_unlike_the_others():
    z = cohort_page.robust_z([1.0, 1.1, 0.9, 1.05, 0.95, 9.0])
    assert abs(z[-1]) > cohort_page.Z_LIMIT > max(map(abs, z[:-1]))
    assert cohort_page.robust_z([1.0, 1.1, 0.9, 9.0]) == [0.0] * 4  # too few to know
    rows = [
        {"scan": str(i), "outcome": "done", "message": "", "body_mean_change_percent": str(v)}
        for i, v in enumerate((1.0, 1.1, 0.9, 1.05, 0.95, 9.0))
    ]
    found = cohort_page.outliers(rows, {})
    assert [name for name, why in found.items() if why] == ["5"] and "body mean change" in found["5"][0]


def test_noise_of_white_noise_is_its_standard_deviation():
    image = np.random.default_rng(0).normal(5.0, 0.7, (20, 40, 40)).astype(np.float32)
    assert noise(image, np.ones(image.shape, bool)) == pytest.approx(0.7, rel=0.02)


def test_the_batch_says_how_much_time_is_left(tmp_path, capsys):
    cohort = nrrd_cohort(tmp_path / "in")
    listener = Listener()
    run_batch(asked(cohort, tmp_path / "out"), listener)
    assert [told[:2] for told in listener.left] == [(1, 3), (2, 3), (3, 3)]
    assert listener.left[0][2] > listener.left[1][2] > 0 == listener.left[2][2]
    listener = Listener()
    run_batch(asked(cohort, tmp_path / "out"), listener, resume=True)
    assert {told[2] for told in listener.left} == {None}  # what was skipped says nothing of the rest
    TerminalProgress(sys.stdout).batch(1, 3, 3900.0)
    JsonProgress(sys.stdout).batch(1.5, 3, 3900.04)
    text, line = capsys.readouterr().out.splitlines()
    assert text == "1 of 3 scans, 1 h 05 min left for the batch"
    assert json.loads(line) == {"event": "batch", "done": 1.5, "total": 3, "seconds_left": 3900.0}


# ---- shared work


def test_several_jobs_give_what_one_gives(tmp_path):
    cohort = nrrd_cohort(tmp_path / "in")
    image = suv_image()
    image[9, 9, 9] = np.nan
    write_image(cohort / "bad.nrrd", image, GRID, metadata={"units": "SUV"})
    run_batch(asked(cohort, tmp_path / "one"), Listener())
    listener = Listener()
    result = run_batch(asked(cohort, tmp_path / "two"), listener, jobs=2)
    assert result["exit_code"] == 2 and result["counts"] == {"done": 3, "refused": 1}
    assert [row["scan"] for row in result["scans"]] == ["bad", "p1", "p2", "p3"]
    assert sorted(said[:2] for said in listener.ended) == [
        ("bad", "refused"),
        ("p1", "done"),
        ("p2", "done"),
        ("p3", "done"),
    ]
    one, two = (rows_of(tmp_path / name / "batch.csv") for name in ("one", "two"))
    assert list(one) == list(two) and one["bad"]["message"] == two["bad"]["message"]
    for name in ("p1", "p2", "p3"):
        first, second = (
            read_volume(tmp_path / out / name / "denoised.nii.gz").array for out in ("one", "two")
        )
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
    assert not list((tmp_path / "two").rglob(".*"))
    with pytest.raises(InputError, match="--jobs 0"):
        run_batch(asked(cohort, tmp_path / "two"), Listener(), jobs=0)


def test_cancel_of_jobs_leaves_nothing_half_written(tmp_path):
    cohort = nrrd_cohort(tmp_path / "in", [f"p{i}" for i in range(4)])
    listener = Listener()
    result = run_batch(asked(cohort, tmp_path / "out"), listener, lambda: bool(listener.ended), jobs=2)
    assert result["exit_code"] == 130 and 1 <= result["counts"]["done"] < 4
    assert not list((tmp_path / "out").rglob(".*"))
    assert rows_of(tmp_path / "out" / "batch.csv").keys() >= {row["scan"] for row in result["scans"]}


def test_two_processes_on_one_output_share_the_scans(tmp_path):
    names = [f"p{i}" for i in range(6)]
    cohort, output = nrrd_cohort(tmp_path / "in", names), tmp_path / "out"
    command = [sys.executable, "-m", "drmc", "denoise", str(cohort), "-o", str(output), *EXACT]
    runs = [
        subprocess.Popen([*command, "--progress", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    results = []
    for run in runs:
        out, err = run.communicate(timeout=300)
        assert run.returncode == 0, err
        results.append(json.loads(out.splitlines()[-1]))
    rows = rows_of(output / "batch.csv")
    assert list(rows) == names and {row["outcome"] for row in rows.values()} <= {"done", "skipped"}
    for result in results:
        assert [row["scan"] for row in result["scans"]] == names
        assert set(result["counts"]) <= {"done", "skipped"}
    assert not list(output.rglob(".*")) and (output / "cohort.html").is_file()


def test_a_scan_that_another_process_holds_is_looked_at_again(tmp_path, monkeypatch):
    cohort, output = nrrd_cohort(tmp_path / "in", ("p1", "p2")), tmp_path / "out"
    monkeypatch.setattr(batch, "LOOK_AGAIN_S", 0.05)
    claim = staging.Claim(output / "p1")
    claim.take()
    release = threading.Timer(0.5, lambda: claim.__exit__(None))
    listener = Listener()
    release.start()
    result = run_batch(asked(cohort, output), listener)
    release.join()
    assert [said[0] for said in listener.ended] == ["p2", "p1"]  # passed over, then done
    assert [row["scan"] for row in result["scans"]] == ["p1", "p2"] and result["exit_code"] == 0


def test_what_the_other_process_has_made_meanwhile_is_taken_over(tmp_path, monkeypatch):
    cohort, output = nrrd_cohort(tmp_path / "in", ("p1", "p2")), tmp_path / "out"
    monkeypatch.setattr(batch, "LOOK_AGAIN_S", 0.05)
    claim = staging.Claim(output / "p1")
    claim.take()

    class Other(Listener):
        """The other process ends its scan while this one does p2."""

        def outcome(self, scan, outcome, message):
            super().outcome(scan, outcome, message)
            if scan == "p2":
                claim.__exit__(None)
                pipeline.run(asked(cohort / "p1.nrrd", output / "p1"), name="p1")

    listener = Other()
    began = time.time()
    run_batch(asked(cohort, output), listener)
    assert listener.ended[1] == ("p1", "skipped", "done by another process") and time.time() - began < 60


def test_rows_of_another_process_stay_while_it_lives(tmp_path):
    row = dict.fromkeys(batch_table.COLUMNS, "")
    mine = {"a": {**row, "scan": "a", "outcome": "skipped", "message": "done by another process"}}
    theirs = {name: {**row, "scan": name, "outcome": "done", "seconds": 5.0} for name in ("a", "b")}
    batch_table.write(tmp_path, ["a", "b"], theirs, [], keep=False)
    batch_table.write(tmp_path, ["a", "b"], mine, ["a"], keep=True)
    found = batch_table.read(tmp_path / "batch.csv")
    assert [(one["scan"], one["outcome"], one["seconds"]) for one in found] == [
        ("a", "done", "5.0"),
        ("b", "done", "5.0"),
    ]
    batch_table.write(tmp_path, ["a", "b"], mine, [], keep=False)  # alone: an earlier batch's rows go
    assert [one["outcome"] for one in batch_table.read(tmp_path / "batch.csv")] == ["skipped"]
