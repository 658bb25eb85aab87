"""The evaluation of a model beside its card: what reads it, what it belongs to, and when it is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from drmc.cli.main import main
from drmc.errors import InputError
from drmc.models import registry
from drmc.models.card import ModelEntry, sha256_of
from drmc.models.evaluation import evaluation_path, read_evaluation, summary, write_evaluation
from drmc.models.registry import SHIPPED, add_model, find_model, list_models
from drmc.models.weights import save_model
from drmc.networks.drmc import DRMC, NetworkConfig

WEIGHTS = sorted(SHIPPED.glob("*.pt"))
GROUPS = {  # the centers of the tests
    "drmc-small-2": {"known": ["C1", "C2", "C3", "C4"], "unknown": ["C5", "C6"]},
    "drmc-c1c4": {"known": ["C1", "C2", "C3", "C4"], "unknown": ["C5", "C6"]},
    "drmc-any": {"unknown": [f"R2043-00{number}" for number in range(1, 9)]},
}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelEntry:
    """The only model of the only folder; it has no evaluation."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setattr(registry, "model_folders", lambda: [folder])
    torch.manual_seed(0)
    network = DRMC(NetworkConfig(channels=8, blocks=1, experts=2, heads=2, hidden=4))
    return save_model(folder / "mine.pt", network, 32, {"title": "Mine", "default": True})


def evaluation_of(entry: ModelEntry) -> dict:
    """What `drmc evaluate` found of the shipped model, as if it were of this one."""
    found = json.loads(evaluation_path(SHIPPED / "drmc-small-2.pt").read_text(encoding="utf-8"))
    return {**found, "model": {"name": entry.name, "sha256": entry.sha256}}


def refusal(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line of a command that is refused."""
    code = main(["models", *arguments])
    out, err = capfd.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    return err


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_a_shipped_card_is_small_and_its_evaluation_is_that_of_its_weights(path: Path):
    entry = find_model(path)
    assert "evaluation" not in entry.card and path.with_suffix(".json").stat().st_size < 30_000
    result = read_evaluation(entry)
    assert result["model"] == {"name": path.stem, "sha256": sha256_of(path)}
    assert entry.card["evaluation_summary"] == summary(result)


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_a_shipped_model_says_whether_a_scan_is_like_those_of_its_training_and_how_sure_it_is(path: Path):
    card = find_model(path).card
    assert card["routing_profiles"]
    # drmc-small-2 is kept as the paper's form; its patients are of the earlier simulator.
    assert ("lesion_intervals" in card) == (path.stem != "drmc-small-2")


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_the_summary_is_what_the_model_gains_at_known_and_unknown_centers(path: Path):
    found = read_evaluation(find_model(path))
    short = summary(found)
    assert list(short["groups"]) == list(GROUPS[path.stem])
    for group, centers in GROUPS[path.stem].items():
        rows = [r for r in found["table"] if r["method"] == "drmc" and r["center"] in centers]
        of_center = {c: [r["psnr_gain"] for r in rows if r["center"] == c] for c in centers}
        patients = {row["center"]: row["patients"] for row in rows}  # each counts once, whatever its doses
        total = sum(patients[center] * np.mean(gains) for center, gains in of_center.items())
        mean = total / sum(patients.values())
        assert short["groups"][group]["centers"] == centers
        assert short["groups"][group]["psnr_gain"] == pytest.approx(mean, rel=1e-9)
    assert short["aims_reached"] == [aim["passed"] for aim in found["aims"]].count(True)


def test_listing_and_finding_models_opens_no_evaluation(model: ModelEntry):
    write_evaluation(model, evaluation_of(model))
    opened: list[str] = []
    watching = True
    sys.addaudithook(
        lambda event, found: opened.append(str(found[0])) if watching and event == "open" else None
    )
    try:
        assert [entry.name for entry in list_models()] == ["mine"] and find_model("mine").card
    finally:
        watching = False
    assert {Path(name).name for name in opened} >= {"mine.pt", "mine.json"}
    assert not [name for name in opened if name.endswith(".evaluation.json")]


def test_what_is_written_is_read_and_printed(model: ModelEntry, capsys: pytest.CaptureFixture[str]):
    result = evaluation_of(model)
    before = json.loads((model.path.with_suffix(".json")).read_text())
    assert write_evaluation(model, result) == model.path.with_name("mine.evaluation.json")
    assert read_evaluation(find_model("mine")) == result
    assert json.loads((model.path.with_suffix(".json")).read_text()) == {
        **before,
        "evaluation_summary": summary(result),
    }
    for chosen in ([], ["mine"], [str(model.path)]):
        assert main(["models", "--evaluation", *chosen]) == 0
        out = capsys.readouterr().out
        assert "model mine, measured by drmc" in out and "| C5 | 4 | nlm" in out and "### Aims" in out
    assert main(["models", "--evaluation", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["evaluated"]["name"] == "mine" and found["evaluated"]["evaluation"] == result
    assert found["models"][0]["evaluation"] is None
    assert main(["models"]) == 0
    assert "measured: known centers (20 patients) +4.42 dB PSNR, 49 %" in capsys.readouterr().out


def test_a_model_without_evaluation_is_refused_in_one_line(
    model: ModelEntry, capfd: pytest.CaptureFixture[str]
):
    line = refusal(capfd, "--evaluation", "mine")
    assert "mine" in line and "has no evaluation" in line and str(evaluation_path(model.path)) in line


def test_an_evaluation_of_other_weights_is_refused_with_both_checksums(
    model: ModelEntry, capfd: pytest.CaptureFixture[str]
):
    other = {**evaluation_of(model), "model": {"name": "mine", "sha256": "0" * 64}}
    with pytest.raises(InputError, match="has changed since it was measured"):
        write_evaluation(model, other)
    assert not evaluation_path(model.path).exists()
    evaluation_path(model.path).write_text(json.dumps(other))
    line = refusal(capfd, "--evaluation", "mine")
    assert "0" * 64 in line and model.sha256 in line and "mine.evaluation.json" in line
    assert [entry.card.get("problem") for entry in list_models()] == [None]  # the model itself is sound
    with pytest.raises(InputError, match="other weights"):
        add_model(model.path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", "JSON object"),
        ("{}", "does not name the weights"),
        ('{"model": {"sha256": "SHA256"}}', "no evaluation that this version of drmc can print"),
    ],
)
def test_a_file_that_is_no_evaluation_is_refused(
    model: ModelEntry, capfd: pytest.CaptureFixture[str], content: str, reason: str
):
    evaluation_path(model.path).write_text(content.replace("SHA256", model.sha256))
    line = refusal(capfd, "--evaluation")
    assert reason in line and "mine.evaluation.json" in line


def test_a_model_whose_name_is_that_of_an_evaluation_keeps_its_card(model: ModelEntry):
    network = DRMC(NetworkConfig(channels=8, blocks=1, experts=2, heads=2, hidden=4))
    other = save_model(model.path.with_name("mine.evaluation.pt"), network, 32, {"title": "Other"})
    with pytest.raises(InputError, match="rename one of the two models"):
        write_evaluation(model, evaluation_of(model))
    assert find_model(other.path).card["title"] == "Other"


def test_an_added_model_brings_its_evaluation(
    model: ModelEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    result = evaluation_of(model)
    write_evaluation(model, result)
    monkeypatch.setattr(registry, "user_folder", lambda: tmp_path / "user")
    assert read_evaluation(add_model(model.path)) == result
    assert evaluation_path(tmp_path / "user" / "mine.pt").is_file()
