"""`drmc import`: scans of two hospitals become a dataset, which grows, and is never half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.cli.main import main
from drmc.datasets.importing import run as importing
from drmc.datasets.importing.splits import draw_splits, lacking
from drmc.datasets.manifest import SPLITS, read_manifest
from drmc.imaging.geometry import Geometry
from hypothesis import given
from hypothesis import strategies as st
from support.engine.denoising_cases import tree
from support.engine.evaluation_data import constant_model
from support.engine.scan_pairs import (
    GRID,
    SUV_OF_BQML,
    images,
    patient_row,
    write_dicom,
    write_file,
    write_table,
)
from support.engine.synthetic_dicom import SECRETS

PATIENTS = ("P000", "P001", "P002")
SHIFTED = Geometry(GRID.shape, GRID.spacing, (-44.0, -42.0, 10.0))


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> tuple[Path, list[dict[str, object]]]:
    """Hospital A with DICOM series and hospital B with image files, three patients of the same names each."""
    root = tmp_path_factory.mktemp("scans")
    rows = [
        patient_row(root, center, patient, 10 * number + place, dicom=center == "A")
        for number, center in enumerate("AB")
        for place, patient in enumerate(PATIENTS)
    ]
    return root, rows


def imported(root: Path, dataset: Path, *rows: dict[str, object], options: tuple[str, ...] = ()) -> int:
    table = write_table(dataset.parent / "pairs.csv", *rows)
    return main(["import", str(root), "--pairs", str(table), "-o", str(dataset), *options])


def splits_of(dataset: Path) -> dict[str, str]:
    return {case.case_id: case.split for case in read_manifest(dataset)}


def test_two_hospitals_with_the_same_patients_are_imported_trained_and_evaluated(
    scans, tmp_path, capfd, monkeypatch
):
    root, rows = scans
    dataset, run = tmp_path / "ours", tmp_path / "run"
    assert imported(root, dataset, *rows) == 0
    out = capfd.readouterr().out.splitlines()
    assert [line.split() for line in out[1:3]] == [["A", "1", "1", "1"], ["B", "1", "1", "1"]]
    assert out[3:] == [f"{dataset / 'dataset.json'}: 6 cases added", f"next: drmc validate {dataset}"]
    assert set(splits_of(dataset)) == {f"{center}/{patient}" for center in "AB" for patient in PATIENTS}
    assert main(["validate", str(dataset)]) == 0
    assert "0 errors, 0 warnings in 6 cases" in capfd.readouterr().out

    settings = ("--preset", "tiny", "--set", "steps=2", "--set", f"prepared={tmp_path / 'prepared'}")
    assert main(["train", str(dataset), "-o", str(run), *settings]) == 0
    card = json.loads((run / "tiny.json").read_text())
    assert card["training"]["patients"] == {"A": 1, "B": 1} and card["training"]["simulated"] is False
    assert len(list((tmp_path / "prepared").iterdir())) == 4

    constant_model(tmp_path / "models" / "shipped.pt", 0.5)
    monkeypatch.setenv("DRMC_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("drmc.models.registry.SHIPPED", tmp_path / "nowhere")
    monkeypatch.setattr("drmc.evaluation.config.EvaluationConfig.spots", 0)
    assert main(["evaluate", str(dataset), "--model", str(run)]) == 0
    result = json.loads((tmp_path / "ours-evaluation" / "evaluation.json").read_text())
    assert [method["name"] for method in result["methods"]] == ["gaussian", "tiny", "shipped"]
    assert result["reference"] == "tiny" and result["patients"] == {"A": 1, "B": 1}
    assert {(row["center"], row["method"]) for row in result["table"]} == {
        (center, method) for center in "AB" for method in ("low", "gaussian", "tiny", "shipped")
    }


def test_images_are_the_suv_of_the_scans_and_facts_identify_nobody(scans, tmp_path):
    root, rows = scans
    assert imported(root, tmp_path / "ours", rows[0], rows[3]) == 0
    cases = {case.case_id: case for case in read_manifest(tmp_path / "ours")}
    for name, seed, tolerance in (("A/P000", 0, 1e-3), ("B/P000", 10, 1e-6)):
        full, low = images(seed)
        case = cases[name]
        for path, expected in ((case.full, full), (case.low[4.0], low[4.0])):
            volume = case.read(path)
            assert volume.units == "SUV" and volume.geometry.matches(GRID)
            np.testing.assert_allclose(volume.suv_array(), expected, rtol=1e-5, atol=tolerance)
    facts = json.loads(cases["A/P000"].facts.read_text())
    assert facts["PatientWeight"] == 70 and facts["InjectedRadioactivity"] == pytest.approx(370)
    assert facts["TracerRadionuclide"] and facts["ManufacturersModelName"] == "Phantom"
    assert facts["SUVDecisions"]["low 4"]["factor"] == pytest.approx(SUV_OF_BQML, rel=1e-6)
    written = b"".join(tree(tmp_path / "ours").values())
    assert not [secret for secret in SECRETS if secret.encode() in written]


def test_warnings_on_suv_are_facts_of_the_case(tmp_path, capfd):
    full, low = images(1)
    write_dicom(tmp_path / "scans" / "full", full)
    # a dose that is unusual, and yet right by somebody's word
    write_dicom(tmp_path / "scans" / "low_drf004", low[4.0] * 10, RadionuclideTotalDose=3.7e9)
    row = {"center": "A", "patient": "P0", "low": "low_drf004", "full": "full"}
    assert imported(tmp_path / "scans", tmp_path / "ours", row) == 2
    assert "line 2 (A/P0): refused: low 4: " in (refusal := capfd.readouterr().err) and "DOSE" in refusal
    assert imported(tmp_path / "scans", tmp_path / "ours", {**row, "accept_suv": "DOSE"}) == 0
    (case,) = read_manifest(tmp_path / "ours")
    facts = json.loads(case.facts.read_text())
    assert facts["SUVAccepted"] == ["DOSE"]
    assert [text.startswith("low 4: ") for text in facts["SUVWarnings"]] == [True]
    assert f"note: A/P0: {facts['SUVWarnings'][0]}" in capfd.readouterr().err
    assert facts["SUVWarnings"][0] in case.read(case.low[4.0]).suv.warnings


# ---- growth


def test_a_dataset_grows_and_what_it_has_stays_as_it_is(scans, tmp_path, capfd):
    root, rows = scans
    dataset = tmp_path / "ours"
    assert imported(root, dataset, *rows[:2], rows[3]) == 0
    assert "note: center B has 1 patient, none for validation, so drmc train" in capfd.readouterr().err
    before, splits = tree(dataset), splits_of(dataset)
    assert splits["B/P000"] == "train" and {splits["A/P000"], splits["A/P001"]} == {"train", "validation"}
    assert imported(root, dataset, *rows, options=("--seed", "5", "--progress", "json")) == 0
    result = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert result["added"] == ["A/P002", "B/P001", "B/P002"] and len(result["unchanged"]) == 3
    after = splits_of(dataset)
    assert all(after[name] == split for name, split in splits.items())
    assert all(sorted(v for k, v in after.items() if k[0] == c) == sorted(SPLITS) for c in "AB")
    grown = tree(dataset)
    assert {name for name in before if before[name] != grown[name]} == {"dataset.json"}
    assert imported(root, dataset, *rows) == 0  # the same again changes nothing
    assert tree(dataset) == grown


def test_a_case_gains_a_dose_and_a_patient_a_scan(tmp_path):
    root, dataset = tmp_path / "scans", tmp_path / "ours"
    for scan, seed in (("first", 1), ("second", 2)):
        full, low = images(seed, (4.0, 10.0))
        write_file(root / scan / "full.nii.gz", full)
        for factor, image in low.items():
            write_file(root / scan / f"a{factor:g}.nii.gz", image)
    row = lambda scan, factor: {
        "center": "A",
        "patient": "P0",
        "scan": scan,
        "full": f"{scan}/full.nii.gz",
        "low": f"{scan}/a{factor}.nii.gz",
        "dose_reduction_factor": factor,
    }
    assert imported(root, dataset, row("first", 4)) == 0
    (dataset / "A" / "P0-first" / "notes.txt").write_text("kept")
    assert (
        imported(root, dataset, row("first", 4), row("first", 10), row("second", 4), row("second", 10)) == 0
    )
    first, second = read_manifest(dataset)
    assert (first.case_id, second.case_id) == ("A/P0-first", "A/P0-second")
    assert list(first.low) == list(second.low) == [4.0, 10.0]
    assert first.patient == second.patient == "P0" and first.split == second.split
    np.testing.assert_allclose(first.read(first.low[10.0]).array, images(1, (4.0, 10.0))[1][10.0], atol=1e-6)
    assert (dataset / "A" / "P0-first" / "notes.txt").exists()
    assert main(["validate", str(dataset)]) == 0


def lesion_labels() -> np.ndarray:
    """Two lesions, (z, y, x), of which the second has the value 7."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[8:10, 9:12, 9:12], labels[6, 14, 14] = 1, 7
    return labels


def write_segmentation(path: Path, labels: np.ndarray) -> Path:
    sitk.WriteImage(GRID.to_image(labels), str(path))
    return path


def test_lesions_come_along_or_later(scans, tmp_path, capfd):
    root, rows = scans
    name = write_segmentation(root / "lesions.nrrd", lesion_labels()).name
    dataset = tmp_path / "ours"
    assert imported(root, dataset, {**rows[0], "lesions": name}, rows[1]) == 0
    first, second = read_manifest(dataset)
    wanted = np.select([lesion_labels() == 1, lesion_labels() == 7], [1, 2])
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(first.lesions))), wanted)
    assert Geometry.from_image(sitk.ReadImage(str(first.lesions))).matches(GRID) and second.lesions is None
    before = tree(dataset)
    assert imported(root, dataset, *({**row, "lesions": name} for row in rows[:2])) == 0
    changed = {path for path, content in tree(dataset).items() if before.get(path) != content}
    assert changed == {"dataset.json", "A/P001/lesions.nii.gz"}
    assert "1 with further doses or lesions, 1 were there already" in capfd.readouterr().out
    assert [case.lesions is not None for case in read_manifest(dataset)] == [True, True]
    assert main(["validate", str(dataset)]) == 0

    before = tree(dataset)
    other = write_segmentation(root / "other.nrrd", np.roll(lesion_labels(), 1, 2)).name
    assert imported(root, dataset, {**rows[0], "lesions": other}) == 2
    assert "the dataset has other lesions of A/P000" in capfd.readouterr().err
    assert tree(dataset) == before


def test_lesions_that_cannot_be_right_are_refused(scans, tmp_path, capfd):
    root, rows = scans
    both = np.stack([lesion_labels() > 0, lesion_labels() == 1], axis=-1).astype(np.uint8)
    layers = sitk.GetImageFromArray(both, isVector=True)
    layers.CopyInformation(GRID.to_image(lesion_labels()))
    for number, segment in enumerate(("all", "large")):
        layers.SetMetaData(f"Segment{number}_ID", segment)
        layers.SetMetaData(f"Segment{number}_Name", segment)
        layers.SetMetaData(f"Segment{number}_LabelValue", "1")
        layers.SetMetaData(f"Segment{number}_Layer", str(number))
    sitk.WriteImage(layers, str(root / "overlap.seg.nrrd"))
    write_segmentation(root / "empty.nrrd", 0 * lesion_labels())
    one = write_segmentation(root / "one.nrrd", lesion_labels()).name
    bad = {
        "overlap.seg.nrrd": "lesions: all and large overlap",
        "empty.nrrd": "the segmentation is empty",
        "none.nrrd": "none.nrrd is not there",
    }
    for name, said in bad.items():
        assert imported(root, tmp_path / "ours", {**rows[0], "lesions": name}) == 2
        assert said in capfd.readouterr().err
    again = {**rows[0], "dose_reduction_factor": 5, "low": rows[1]["low"], "lesions": "empty.nrrd"}
    assert imported(root, tmp_path / "ours", {**rows[0], "lesions": one}, again) == 2
    assert "A/P000 has other lesions in line 2" in capfd.readouterr().err
    assert not (tmp_path / "ours").exists()


# ---- refusals


def planted(root: Path, rows: list[dict[str, object]]) -> dict[str, tuple[dict[str, object], str]]:
    """Bad rows by a patient's name, and a part of what is said of each."""
    full, low = images(50)
    place = lambda name: f"bad/{name}.nii.gz"
    write_file(root / place("full"), full)
    write_file(root / place("shifted"), low[4.0], SHIFTED)
    write_file(root / place("unknown"), low[4.0], units=None)
    write_file(root / place("copy"), full)
    write_file(root / place("unnamed"), low[4.0])
    (root / place("broken")).write_bytes(b"no image")
    factor = {"dose_reduction_factor": 4}
    bad = lambda low, **more: {"center": "A", "full": place("full"), "low": place(low), **factor, **more}
    own = {name: place(f"full-{name}") for name in ("Q1", "Q2", "Q3", "Q4", "Q5", "Q6")}
    for path in own.values():
        shutil.copy(root / place("full"), root / path)
        shutil.copy(root / "bad" / "full.json", root / path.replace(".nii.gz", ".json"))
    return {
        "Q1": (bad("shifted", full=own["Q1"]), "low 4 and full lie on different grids"),
        "Q2": (bad("unknown", full=own["Q2"]), "does not say its units"),
        "Q3": (bad("copy", full=own["Q3"]), "low 4 is the same image as full"),
        "Q4": (bad("broken", full=own["Q4"]), "low 4: "),
        "Q5": (bad("missing", full=own["Q5"]), "missing.nii.gz is not there"),
        "Q6": (bad("unnamed", full=own["Q6"], dose_reduction_factor=""), "by how much the dose is reduced"),
        "Q7": (bad("unnamed", dose_reduction_factor="1/4"), "'1/4' is no number above 1"),
        "Q8": (bad("unnamed", split="holdout"), "split 'holdout' is none of train, validation, test"),
        "Q 9": (bad("unnamed"), "patient 'Q 9' is no safe name of a folder"),
        "p000": ({**rows[0], "patient": "p000"}, "p000 differs from P000 in line 2 in capitals only"),
        "Q10": ({**rows[1], "patient": "Q10"}, "is the full dose of A/P001 already"),
        "Q11": (
            {**rows[2], "low": rows[2]["full"], "dose_reduction_factor": 5},
            "is the full dose of A/P002 already",
        ),
        "Q12": (bad("unnamed", full=""), "has no full: fill the cell in"),
        "Q13": (bad("unnamed", units="counts"), "units 'counts' are unknown"),
    }


def test_every_bad_row_is_one_line_and_nothing_is_written(scans, tmp_path, capfd):
    root, rows = scans
    root = Path(shutil.copytree(root, tmp_path / "scans"))
    found = planted(root, rows)
    bad = [{"patient": name, **row} for name, (row, _) in found.items()]
    there = {"center": "A", "patient": "P000"}
    assert imported(root, tmp_path / "ours", *rows, *bad) == 2
    err = capfd.readouterr().err.splitlines()
    refused = [line for line in err if ": refused: " in line]
    assert len(refused) == len(bad) and not (tmp_path / "ours").exists()
    for line, (name, (_, said)) in enumerate(found.items(), 2 + len(rows)):
        (mine,) = [text for text in refused if text.startswith(f"pairs.csv, line {line}")]
        assert said in mine, name
    assert err[-1].startswith("drmc: ") and "14 of 20 rows are refused, nothing was imported" in err[-1]
    # the same into a dataset that is there: it stays, and leaves no trace
    assert imported(root, tmp_path / "ours", *rows) == 0
    before = tree(tmp_path)
    new = patient_row(root, "C", "P7", 70)
    assert imported(root, tmp_path / "ours", *rows, new, *bad) == 2
    assert {name for name in tree(tmp_path) if before.get(name) != tree(tmp_path)[name]} == {
        "pairs.csv",
        *(name for name in tree(tmp_path) if name.startswith("scans/c_scans/")),
    }
    capfd.readouterr()
    # what contradicts the dataset
    other = {**patient_row(root, "C", "P8", 80), **there}
    assert imported(root, tmp_path / "ours", other) == 2
    assert "the dataset has another full dose of A/P000" in capfd.readouterr().err
    kept = splits_of(tmp_path / "ours")["A/P000"]
    moved = next(split for split in SPLITS if split != kept)
    assert imported(root, tmp_path / "ours", {**rows[0], "split": moved}) == 2
    assert f"A/P000 is in the split {kept} of the dataset" in capfd.readouterr().err
    (tmp_path / "ours" / "C" / "P7").mkdir(parents=True)
    assert imported(root, tmp_path / "ours", new) == 2
    assert "C/P7 is there, and dataset.json does not name it" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column 'center'"),
        ("center,patient,low\nA,P,x\n", "has no column 'full'"),
        ("center,patient,low,full,dose\n", "the column 'dose' is none of center, patient"),
        ("center,patient,low,full,low\n", "the column 'low' is there twice"),
        ("center;patient;low;full\n", "has no pairs"),
    ],
)
def test_what_is_no_table_of_pairs_is_refused(tmp_path, capfd, text, said):
    (tmp_path / "pairs.csv").write_text(text)
    code = main(["import", str(tmp_path), "--pairs", str(tmp_path / "pairs.csv"), "-o", str(tmp_path / "d")])
    err = capfd.readouterr().err
    assert code == 2 and said in err and err.count("\n") == 1 and not (tmp_path / "d").exists()


@pytest.mark.parametrize("first", ["", "sep=;\n", "\n;;;\n"])
def test_a_table_is_read_as_spreadsheets_save_it(scans, tmp_path, capfd, first):
    root, rows = scans
    table = write_table(tmp_path / "pairs.csv", rows[0])
    text = table.read_text().replace(",", ";").replace("\n", ";;\r\n")
    table.write_bytes((first + text).encode("utf-8-sig"))
    assert main(["import", str(root), "--pairs", str(table), "-o", str(tmp_path / "ours")]) == 0
    assert "1 case added" in capfd.readouterr().out
    table.write_text(first + text.replace("low", "nowhere").replace("nowhere", "low", 1))
    assert main(["import", str(root), "--pairs", str(table), "-o", str(tmp_path / "other")]) == 2
    assert f"line {2 + first.count(chr(10))}: refused: low: " in capfd.readouterr().err


def test_a_simulated_dataset_gets_no_scans_of_patients(scans, tmp_path, capfd):
    root, rows = scans
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "dataset.json").write_text('{"simulated": true, "cases": []}')
    assert imported(root, tmp_path / "ours", *rows) == 2
    assert "is a simulated dataset" in capfd.readouterr().err


@pytest.mark.parametrize("moment", ["convert", "_move", "files.write_json"])
def test_an_import_that_is_stopped_leaves_the_dataset_as_it_was(scans, tmp_path, monkeypatch, moment):
    root, rows = scans
    assert imported(root, tmp_path / "ours", rows[0]) == 0
    before = tree(tmp_path / "ours")
    owner, _, name = moment.rpartition(".")
    owner = importing.files if owner else importing
    real, calls = getattr(owner, name), []

    def stopped(*arguments):
        calls.append(arguments)
        if name == "write_json" or len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        if name == "write_json":  # side-cars are written with the same function
            only_manifest = lambda path, value: (
                stopped(path, value) if path.name == "dataset.json" else real(path, value)
            )
            patch.setattr(owner, name, only_manifest)
        else:
            patch.setattr(owner, name, stopped)
        assert imported(root, tmp_path / "ours", *rows) == 130
    assert calls and tree(tmp_path / "ours") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "pairs.csv"]
    assert imported(root, tmp_path / "ours", *rows) == 0 and len(splits_of(tmp_path / "ours")) == 6


# ---- splits


@given(st.dictionaries(st.sampled_from("ABC"), st.integers(1, 30), min_size=1), st.integers(0, 3), st.data())
def test_splits_have_every_center_and_stay_when_it_grows(counts, seed, data):
    patients = [(center, f"P{number}") for center, count in counts.items() for number in range(count)]
    whole = draw_splits(patients, {}, seed=seed)
    assert whole == draw_splits(patients[::-1], {}, seed=seed)
    for center, count in counts.items():
        found = [split for (of, _), split in whole.items() if of == center]
        assert [found.count(split) > 0 for split in SPLITS] == [True, count > 1, count > 2]
        assert found.count("train") >= count * 0.6 or count < 5
    some = data.draw(st.lists(st.sampled_from(patients), unique=True))
    first = draw_splits(some, {}, seed=seed)
    grown = draw_splits(patients, first, seed=seed)
    assert all(grown[patient] == split for patient, split in first.items())
    for center, count in counts.items():
        missing = lacking(grown).get(center, [])
        assert ("validation" in missing, "test" in missing) == (count < 2, count < 3)
