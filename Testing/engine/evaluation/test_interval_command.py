"""`drmc intervals`: from a dataset into the card, and the check on other patients."""

from __future__ import annotations

import json

import pytest
from drmc.cli.main import main
from drmc.datasets.manifest import read_manifest
from drmc.denoising.pipeline import run
from drmc.denoising.request import DenoiseRequest
from drmc.measures.intervals import CARD_KEY
from drmc.models.registry import find_model
from support.engine.evaluation_data import constant_model, write_dataset

CPU = ("--device", "cpu", "--precision", "fp32")
CENTERS = {f"S{number:02d}": (4,) for number in range(20)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(
        tmp_path_factory.mktemp("data") / "set", doses=CENTERS, splits=("validation", "test")
    )


@pytest.fixture
def model(tmp_path):
    return str(constant_model(tmp_path / "models" / "plus.pt", -0.1))


def test_calibrate_check_and_a_run_with_the_card(dataset, model, tmp_path, capsys):
    keep = tmp_path / "kept"
    command = ["intervals", "calibrate", model, str(dataset), *CPU, "-o", str(keep)]
    assert main(command) == 0
    assert "not written: give --card" in capsys.readouterr().out and CARD_KEY not in find_model(model).card
    files = {path: path.stat().st_mtime_ns for path in keep.iterdir()}
    assert len(files) == 20
    assert main([*command, "--card", "--json"]) == 0
    printed = capsys.readouterr().out
    content = find_model(model).card[CARD_KEY]
    assert json.loads(printed[: printed.rindex("}") + 1]) == content
    assert {path: path.stat().st_mtime_ns for path in keep.iterdir()} == files, "nothing is denoised twice"
    made = content["made_from"]
    assert (made["unit"], made["centers"], made["lesions"], made["split"]) == ("center", 20, 40, "validation")
    assert made["simulated"] is True and made["doses"] == [4.0] and content["check"] is None

    assert main(["intervals", "check", model, str(dataset), *CPU, "--card"]) == 0
    said = capsys.readouterr().out
    check = find_model(model).card[CARD_KEY]["check"]
    assert check["split"] == "test" and check["centers"] <= 20 and check["lesions"] == 40
    assert f"{check['stated']} of 40 lesions have an interval" in said and "SUVpeak" in said
    assert {**find_model(model).card[CARD_KEY], "check": None} == content

    # A run on another patient states an interval for each lesion, or why it does not.
    case = next(case for case in read_manifest(dataset) if case.split == "test")
    low = next(iter(case.low.values()))
    summary = run(
        DenoiseRequest(
            low,
            tmp_path / "out",
            model=model,
            device="cpu",
            precision="fp32",
            units="suv",
            lesions=case.lesions,
        )
    )
    rows = [row for row in summary["lesions"]["segments"] if row["stage"] == "denoised"]
    widths = [
        row["suv_mean_interval90_high"] - row["suv_mean_interval90_low"]
        for row in rows
        if not row["interval_note"]
    ]
    assert len(rows) == 2 and all(0 < width < 3 for width in widths)


def test_what_cannot_be_calibrated_or_checked_is_refused(dataset, model, tmp_path, capsys):
    assert main(["intervals", "check", model, str(dataset), *CPU]) == 2
    assert (
        "its card has no lesion intervals: make them with drmc intervals calibrate" in capsys.readouterr().err
    )
    few = ["intervals", "calibrate", model, str(dataset), *CPU, "--centers", "S00,S01"]
    assert main([*few, "--card"]) == 2
    assert "at least 20 centers or patients, here are 2" in capsys.readouterr().err
    assert CARD_KEY not in find_model(model).card
    assert main(["intervals", "calibrate", model, str(dataset), *CPU, "--centers", "X*"]) == 2
    assert "center X* has no patient in the split 'validation'" in capsys.readouterr().err
    assert main(["intervals", "calibrate", model, str(dataset), "--split", "train", *CPU]) == 2
    assert "no patient in the split 'train'" in capsys.readouterr().err


def test_a_dataset_without_lesions_is_refused(model, tmp_path, capsys):
    folder = write_dataset(tmp_path / "plain", doses={"A": (4,)}, splits=("validation",))
    manifest = json.loads((folder / "dataset.json").read_text())
    for case in manifest["cases"]:
        del case["lesions"]
    (folder / "dataset.json").write_text(json.dumps(manifest))
    assert main(["intervals", "calibrate", model, str(folder), *CPU]) == 2
    assert "has a measurable lesion" in capsys.readouterr().err
