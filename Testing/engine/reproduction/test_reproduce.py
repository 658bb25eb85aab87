"""The queue of a reproduction: killed, failing, with gaps; and all of it in small."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from drmc.cli.main import main
from drmc.errors import DRMCError
from drmc.reproduction import pieces, queue, trainings
from drmc.reproduction.config import ReproductionConfig
from drmc.reproduction.pieces import run_piece
from drmc.reproduction.queue import run_queue
from drmc.reproduction.states import Piece, read_state, write_state
from support.engine.small_reproduction import TRAININGS, write_config, write_patients

PATIENCE = 500  # seconds


@pytest.fixture(scope="module")
def patients(tmp_path_factory) -> Path:
    return write_patients(tmp_path_factory.mktemp("patients"))


@pytest.fixture(scope="module")
def reproduced(patients, tmp_path_factory) -> Path:
    """The output of a run that was killed in its second training that works, and started again."""
    folder = tmp_path_factory.mktemp("reproduced")
    path = write_config(folder / "config.json", patients)
    killed = subprocess.Popen(
        [sys.executable, "-m", "drmc", "reproduce", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until, waited_for = (
        time.monotonic() + PATIENCE,
        folder / "out" / "trainings" / "general" / "training.jsonl",
    )
    while not waited_for.is_file() and killed.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert waited_for.is_file()
    model = folder / "out" / "trainings" / "drmc" / "drmc.pt"
    before = model.stat().st_mtime_ns
    assert main(["reproduce", str(path)]) == 1  # what cannot work does not
    assert model.stat().st_mtime_ns == before
    return folder / "out"


def states(output: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in (output / "pieces").glob("*.json")}


def test_what_fails_is_one_line_and_the_others_are_done(reproduced):
    found = states(reproduced)
    failed = {name: one["message"] for name, one in found.items() if one["state"] == "failed"}
    assert set(failed) == {"training-wrong", "training-orphan", "training-diverges"}
    assert "unknown key 'learning_rat' (did you mean 'learning_rate'?)" in failed["training-wrong"]
    assert failed["training-orphan"] == "begins with the training wrong, which is not done"
    assert "no finite gradients" in failed["training-diverges"]
    page = (reproduced / "paper.html").read_text()
    assert all("\n" not in message and message.replace("'", "&#x27;") in page for message in failed.values())
    done = {name.removeprefix("training-") for name, one in found.items() if one["state"] == "done"}
    assert done == {
        "drmc",
        "general",
        "ftl",
        "specialists",
        "baseline",
        "evaluation",
        "interference",
        "routing",
    }


def test_equal_patches_for_all_and_what_a_row_says_of_itself(reproduced):
    found = states(reproduced)
    for name, share in (("drmc", 1), ("general", 0.5), ("ftl", 0.5), ("specialists", 1), ("baseline", 1)):
        state = found[f"training-{name}"]
        assert state["patches"] == 48 * share and state["steps"] == 24 * share and state["parameters"] > 100
    assert (
        set(found["training-ftl"]["models"]) == {"C1", "C2"} and found["training-ftl"]["general"] == "general"
    )
    assert list(found["training-baseline"]["kept"]) == ["12", "24"]
    line = next(
        line for line in (reproduced / "paper.md").read_text().splitlines() if line.startswith("| drmc |")
    )
    assert f"{found['training-drmc']['parameters']:,}" in line and "| 48 of 8 |" in line


def cells(output: Path) -> dict[tuple[str, str, str, str], dict]:
    with open(output / "paper.csv", newline="") as file:
        return {(c["table"], c["row"], c["column"], c["metric"]): c for c in csv.DictReader(file)}


def test_cells_are_those_of_the_evaluation_and_empty_where_nothing_was_computed(reproduced):
    found = cells(reproduced)
    result = json.loads((reproduced / "evaluation" / "evaluation.json").read_text())
    table = {(r["center"], r["dose_reduction_factor"], r["method"]): r for r in result["table"]}
    for metric in ("psnr", "psnr_legacy", "B_mean", "B_mean_signed", "B_max"):
        assert float(found["2", "DRMC", "C1", metric]["ours"]) == pytest.approx(
            table["C1", 12, "drmc"][metric], abs=1e-6
        )
        both = [table[center, dose, "drmc"][metric] for center, dose in (("C1", 12), ("C2", 4))]
        assert float(found["2", "DRMC", "Avg.", metric]["ours"]) == pytest.approx(sum(both) / 2, abs=1e-6)
        assert float(found["7", "DRMC", "DRF=3", metric]["ours"]) == pytest.approx(
            table["C6", 3, "drmc"][metric], abs=1e-6
        )
    # transfer: the center's own model at home, the general one elsewhere
    ftl, general = (float(found["3", "FTL", "C5", "psnr"]["ours"]), table["C5", 4, "general"]["psnr"])
    assert ftl == pytest.approx(general, abs=1e-6)
    of_c1 = float(found["5", "Specialized baseline, trained on C1", "C2", "psnr"]["ours"])
    assert of_c1 == pytest.approx(table["C2", 4, "specialists-C1"]["psnr"], abs=1e-6)
    assert [found["2", row, "C1", "psnr_legacy"]["ours"] for row in ("3D-cGAN", "FL-MRCM")] == ["", ""]
    assert found["2", "FL-MRCM", "C1", "psnr_legacy"]["paper"] == "47.81"
    text = (reproduced / "paper.md").read_text()
    assert "| FL-MRCM | \\| 47.81\\* | \\| 45.56\\* | \\| 45.95\\* |" in text
    assert f"{table['C1', 12, 'drmc']['psnr_legacy']:.2f} \\| 49.48" in text


def test_the_page_has_all_tables_and_figures(reproduced):
    page, text = (reproduced / "paper.html").read_text(), (reproduced / "paper.md").read_text()
    titles = [
        *(f"Table {k}" for k in range(2, 8)),
        "Figure 1b",
        "Figure 3b",
        "Figures 3c and 3d",
        "Definitions",
    ]
    for title in titles:
        assert f"<h2>{title}" in page and f"\n## {title}" in text
    linked = [line.partition("](")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert len(linked) == 2 * 2 + 4 + 4 and all((reproduced / file).is_file() for file in linked)
    for words in ("psnr_legacy", "Wilcoxon", "Holm", "range 20 SUV", "Simulated patients"):
        assert words in page
    assert "http" not in page.replace("https://", "").replace("http://www.w3.org", "")


def test_what_is_done_is_not_done_again_and_the_page_is_the_same(reproduced):
    config = reproduced.parent / "config.json"
    files = [*(reproduced / "trainings").rglob("*.pt"), *(reproduced / "evaluation").rglob("*.csv")]
    files += [reproduced / "interference" / "step12" / "interference.json"]
    before = {path: path.stat().st_mtime_ns for path in files if "diverges" not in str(path)}
    page = (reproduced / "paper.csv").read_text()
    assert main(["reproduce", str(config)]) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (reproduced / "paper.csv").read_text() == page
    (reproduced / "paper.csv").unlink()
    assert main(["reproduce", str(config), "--page-only"]) == 0
    assert (reproduced / "paper.csv").read_text() == page


def test_other_settings_for_what_has_begun_are_refused(reproduced, patients):
    path = write_config(
        reproduced.parent / "other.json", patients, trainings={**TRAININGS, "drmc": {"seed": 9}}
    )
    config = ReproductionConfig.read(path)
    state = run_piece((config, Piece("training", "drmc")), lambda share: None)
    assert state["state"] == "failed" and "trained with another 'seed' (1, now 9)" in state["message"]


def test_a_page_of_nothing_has_the_papers_numbers_alone(patients, tmp_path, capsys):
    path = write_config(tmp_path / "config.json", patients, patients=[])
    assert main(["reproduce", str(path), "--page-only"]) == 0
    assert all(cell["ours"] == "" for cell in cells(tmp_path / "out").values())
    assert "Nothing has been evaluated yet" in (tmp_path / "out" / "paper.html").read_text()
    assert main(["reproduce", str(path), "--list"]) == 0
    assert "training drmc" in capsys.readouterr().out


@pytest.mark.parametrize("piece", [Piece("training", "drmc"), Piece("evaluation"), Piece("routing")])
def test_a_missing_center_is_one_line(patients, tmp_path, piece):
    centers = {
        "known_centers": ["C1", "C3"],
        "unknown_centers": ["C5"],
        "test_dataset": str(tmp_path / "gone"),
    }
    config = ReproductionConfig.read(write_config(tmp_path / "config.json", patients, **centers))
    state = run_piece((config, piece), lambda share: None)
    wanted = {
        "training": "center C3 has no patient in the split 'train'",
        "evaluation": "no training is done",
        "routing": "needs the training drmc, which is not done",
    }
    assert state["state"] == "failed" and wanted[piece.kind] in state["message"]


def test_a_full_disk_is_one_line_and_the_queue_goes_on(patients, tmp_path, monkeypatch):
    config = ReproductionConfig.read(
        write_config(
            tmp_path / "config.json", patients, figure_1b=None, figure_3b="", figure_3c={}, figure_3d={}
        )
    )

    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "x.pt"))

    monkeypatch.setattr(trainings, "train", full)
    state = run_piece((config, Piece("training", "drmc")), lambda share: None)
    assert state["state"] == "failed" and state["message"].endswith("make room and start again")
    # even where the state itself cannot be written
    calls = []

    def in_this_process(function, tasks, _workers, *, progress, finished):
        for number, task in enumerate(tasks):
            calls.append(task[1].title)
            finished(number, function(task, lambda share: None))

    monkeypatch.setattr(queue, "run_in_processes", in_this_process)
    monkeypatch.setattr(queue, "write_state", full)
    failures = run_queue(config)
    assert calls == [f"training {name}" for name in TRAININGS] + ["evaluation"]
    assert len(failures) == len(calls)


def test_a_worker_that_is_killed_costs_its_piece_alone(patients, tmp_path, monkeypatch):
    names = {name: {} for name in ("drmc", "second", "third")}
    rows = [{"row": "DRMC", "trainings": "drmc", "tables": [2]}]
    extra = {"figure_1b": None, "figure_3b": "", "figure_3c": {}, "figure_3d": {}}
    config = ReproductionConfig.read(
        write_config(tmp_path / "c.json", patients, trainings=names, rows=rows, **extra)
    )

    def dies(_function, tasks, _workers, *, progress, finished):
        for number, (_, piece) in enumerate(tasks):
            if piece.name == "second":
                raise DRMCError("the system ended a worker process (SIGKILL), most likely for lack of memory")
            finished(number, {"state": "done", "models": {}})

    monkeypatch.setattr(queue, "run_in_processes", dies)
    failures = run_queue(config)
    assert [(piece.name, message[:10]) for piece, message in failures] == [("second", "the system")]
    assert read_state(config, Piece("training", "third"))["state"] == "done"
    assert read_state(config, Piece("training", "second"))["state"] == "failed"


def test_a_weight_file_that_is_gone_is_trained_again(patients, tmp_path):
    config = ReproductionConfig.read(write_config(tmp_path / "config.json", patients))
    write_state(
        config, Piece("training", "drmc"), {"state": "done", "models": {"": "trainings/drmc/drmc.pt"}}
    )
    assert pieces.training_state(config, "drmc") == {"state": "waiting"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patchs": 3}, "unknown key 'patchs' (did you mean 'patches'?)"),
        ({"patches": 0}, "patches = 0: must be a whole number of at least 1"),
        ({"rows": [{"row": "x", "tables": [2], "trainings": "gone"}]}, "training 'gone' is named by a row"),
        ({"rows": [{"row": "x", "tables": [8], "trainings": "drmc"}]}, "there is no table 8"),
        ({"rows": [{"row": "x", "tables": [2]}]}, "give either 'trainings' or 'filter'"),
        ({"trainings": {"low": {}}}, "training 'low': choose another name"),
        ({"figure_3c": {"many": "drmc"}}, "'many' is no number"),
        ({"patients": [{"centers": ["C1"], "patients": 1}]}, "patients: key 'seed' is missing"),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_is_done(
    patients, tmp_path, capsys, changes, message
):
    path = write_config(tmp_path / "config.json", patients, **changes)
    assert main(["reproduce", str(path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 5}, "'steps' follows from"),
        ({"share": 2}, "share = 2"),
        ({"patches_per_center": 99}, "less than"),
    ],
)
def test_what_follows_from_the_reproduction_is_no_setting_of_a_training(patients, tmp_path, values, message):
    path = write_config(tmp_path / "config.json", patients, trainings={**TRAININGS, "drmc": values})
    state = run_piece((ReproductionConfig.read(path), Piece("training", "drmc")), lambda share: None)
    assert state["state"] == "failed" and message in state["message"]


def test_the_configuration_is_needed_and_tiny_has_its_own(capsys):
    assert (
        main(["reproduce"]) == main(["reproduce", "x.json", "--tiny"]) == main(["reproduce", "--tiny"]) == 2
    )
    assert "name a folder for it with -o" in capsys.readouterr().err
