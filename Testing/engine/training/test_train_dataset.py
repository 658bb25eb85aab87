"""`drmc train DATASET`: a training without a configuration file."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from drmc.cli.main import main
from drmc.errors import OutputInUseError
from support.engine.denoising_cases import tree
from support.engine.small_training import make_dataset

FEW = ("--preset", "tiny", "--set", "steps=2", "--set", "patch=8")


@pytest.fixture
def ours(dataset: Path, tmp_path: Path) -> Path:
    """A dataset whose neighbors may be written."""
    return Path(shutil.copytree(dataset, tmp_path / "ours"))


def add_case(dataset: Path, **entry: object) -> None:
    path = dataset / "dataset.json"
    manifest = json.loads(path.read_text())
    manifest["cases"].append({**manifest["cases"][0], **entry})
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("named", ["ours", "ours/dataset.json"])
def test_a_folder_or_its_manifest_trains_its_own_centers_beside_it(
    ours, tmp_path, monkeypatch, capsys, named
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", named, *FEW]) == 0
    run = tmp_path / "ours-tiny"
    printed = capsys.readouterr()
    assert f"note: the run and its model are kept in {run}\n" in printed.err
    assert printed.out == f"saved: {run / 'tiny.pt'}\n"
    assert json.loads((run / "tiny.json").read_text())["training"]["patients"] == {"A": 2, "B": 2}
    kept = json.loads((run / "training.json").read_text())
    assert kept == {
        "preset": "tiny",
        "dataset": "../ours",
        "output": ".",
        "centers": ["A", "B"],
        "steps": 2,
        "patch": 8,
    }
    # again, it goes on, with what is kept there
    assert main(["train", named, "--preset", "tiny"]) == 0
    assert "resumed at step 2 of 2" in capsys.readouterr().err
    assert json.loads((run / "training.json").read_text()) == kept


def test_a_run_goes_on_with_the_dataset_that_is_named_or_not_at_all(ours, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert main(["train", str(ours), "-o", run, *FEW]) == 0
    other = Path(shutil.copytree(ours, tmp_path / "other"))
    add_case(other, id="A-train-9", patient="A-train-9")
    before = tree(tmp_path)
    for more in ([], ["--check"]):
        capsys.readouterr()
        assert main(["train", str(other), "-o", run, *more]) == 2
        assert f"the images in {other} are not those that this run started with" in capsys.readouterr().err
    assert tree(tmp_path) == before
    moved = ours.rename(tmp_path / "elsewhere")
    assert main(["train", str(moved), "-o", run]) == 0


def test_of_two_runs_that_start_at_once_the_refused_one_leaves_the_configuration(ours, tmp_path, monkeypatch):
    def refused(config, *, report):
        raise OutputInUseError(f"{config.output}: another run is writing there")

    monkeypatch.setattr("drmc.training.loop.train", refused)
    assert main(["train", str(ours), *FEW]) == OutputInUseError.exit_code
    assert (tmp_path / "ours-tiny" / "training.json").is_file()


def test_the_default_preset_is_checked_without_writing_anything(ours, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    assert main(["train", "ours", "--check", "--processes", "2", "-o", "run", "--set", "steps=7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "331418 parameters, 7 steps of 2 patches of 48 x 48 x 48" in lines[0]
    assert "patients for training + validation: A 2 + 1, B 2 + 1" in lines[1]
    words = shlex.split(lines[-1])
    assert words[words.index("drmc.training") :] == [
        "drmc.training",
        "ours",
        "--output",
        "run",
        "--set",
        "steps=7",
    ]
    assert not [line for line in lines if line.startswith("refused")] and tree(tmp_path) == before
    # the words of that line are a training that is asked for in the same way
    assert main(["train", *words[words.index("ours") :], "--preset", "tiny", "--set", "patch=8"]) == 0
    assert (tmp_path / "run" / "tiny.pt").is_file()


def test_the_check_warns_of_a_patient_in_both_splits(ours, capsys):
    add_case(ours, id="A-again", patient="A-train-0", split="validation")
    assert main(["train", str(ours), "--check", *FEW]) == 0
    assert "warning  dataset: A/A-train-0: in the splits train and validation" in capsys.readouterr().out


def test_a_training_says_so_in_terminal_log_page_and_card(ours, tmp_path, capsys):
    add_case(ours, id="A-again", patient="A-train-0", split="validation")
    run = tmp_path / "run"
    assert main(["train", str(ours), "-o", str(run), *FEW]) == 0
    text = "A/A-train-0: in the splits train and validation"
    assert f"warning: {text}" in capsys.readouterr().err
    assert text in json.loads((run / "training.jsonl").read_text().splitlines()[0])["warnings"][0]
    assert text in (run / "training.html").read_text()
    assert text in json.loads((run / "tiny.json").read_text())["training"]["warnings"][0]


def test_the_check_counts_patients_not_scans(ours, capsys):
    add_case(ours, id="A-again", patient="A-train-0")
    assert main(["train", str(ours), "--check", *FEW]) == 0
    assert "patients for training + validation: A 2 + 1, B 2 + 1" in capsys.readouterr().out


def test_centers_without_patients_for_validation_are_left_out_and_named(ours, tmp_path, capsys):
    add_case(ours, id="C-0", center="C")
    assert main(["train", str(ours), "--check"]) == 0
    assert "warning  center C is left out: it needs patients for training and for" in capsys.readouterr().out
    assert main(["train", str(ours), "-o", str(tmp_path / "run"), *FEW]) == 0
    assert "note: center C is left out" in capsys.readouterr().err
    # a center that came later is not in the run that goes on
    add_case(ours, id="C-1", center="C", split="validation")
    assert main(["train", str(ours), "-o", str(tmp_path / "run"), "--preset", "tiny"]) == 0
    said = f"center C is none of {tmp_path / 'run' / 'training.json'}: a new run, with another -o FOLDER"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{folder}/nowhere"], "cannot be read"),
        (["{folder}"], "no such dataset; make one with 'drmc import"),
        (["{folder}/ours", "--preset", "best"], "preset = 'best': must be one of"),
        (["{folder}/ours", "--dataset", "other"], "is named as the dataset already"),
        (["{folder}/ours", "--set", "stesp=3"], "stesp"),
        (["--check"], "name the dataset's folder, or the configuration file"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_nothing_is_written(ours, tmp_path, capfd, arguments, said):
    before = tree(tmp_path)
    assert main(["train", *(text.format(folder=tmp_path) for text in arguments)]) == 2
    err = capfd.readouterr().err
    assert said in err and err.count("\n") == 1 and tree(tmp_path) == before


def test_a_run_that_is_refused_late_leaves_no_configuration(tmp_path, capfd):
    ours = make_dataset(tmp_path / "ours" if (tmp_path / "ours").mkdir() is None else tmp_path)
    (ours / "B-train-1" / "low.nii.gz").unlink()
    assert main(["train", str(ours), *FEW]) == 2
    assert "B-train-1" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]
