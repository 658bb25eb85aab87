"""Outputs that cannot be written are refused by every command, before any work, and nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from drmc.denoising.staging import Claim
from drmc.errors import InputError
from drmc.files import write_json
from drmc.models import card
from support.engine.command_line import refused

COMMANDS = {
    "profile": ["profile", "tiny", "DATA", "-o"],
    "intervals": ["intervals", "calibrate", "tiny", "DATA", "-o"],
    "interference": ["interference", "tiny", "DATA", "-o"],
    "evaluate": ["evaluate", "DATA", "--model", "tiny", "-o"],
    "reproduce": ["reproduce", "--tiny", "-o"],
    "calibrate": ["calibrate", "-o"],
    "simulate": ["simulate", "--centers", "C1", "-o"],
    "audit": ["simulate", "--audit", "--patients", "8", "-o"],
    "import": ["import", "DATA", "--pairs", "DATA/pairs.csv", "-o"],
    "validate": ["validate", "DATA", "--sheet"],
    "benchmark": ["benchmark", "tile", "-o"],
}
PLACES = ["file", "file/out", "file/deep/out"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_json(folder / "dataset.json", {"schema": 1, "cases": []})
    for name in ("low_drf004.nii.gz", "full.nii.gz"):
        (folder / name).touch()
    (folder / "pairs.csv").write_text("center,patient,low,full\nA,P,low_drf004.nii.gz,full.nii.gz\n")
    (tmp_path / "file").write_text("a regular file")
    (tmp_path / "link").symlink_to("nowhere")
    return folder


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_is_no_folder_is_refused(command, place, data, tmp_path, capfd):
    words = [word.replace("DATA", str(data)) for word in COMMANDS[command]]
    line = refused(capfd, tmp_path, *words, tmp_path / place)
    assert str(tmp_path / place.partition("/")[0]) in line and "DRMC_DEBUG" not in line


@pytest.mark.parametrize("command", ["profile", "intervals", "evaluate"])
def test_a_card_that_cannot_be_written_is_refused_before_the_work(
    command, data, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(card.os, "access", lambda path, mode: False)
    words = [word.replace("DATA", str(data)) for word in COMMANDS[command]]
    line = refused(capfd, tmp_path, *words, tmp_path / "out", "--card")
    assert f"{tmp_path / 'models'}: cannot be written" in line


@pytest.mark.parametrize("place", [*PLACES, "link", "link/out"])
def test_a_claim_on_such_a_place_is_refused(place, data, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"file|link"), Claim(tmp_path / place) as claim:
        claim.take()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_that_no_file_system_takes_is_refused(case, tmp_path, capfd):
    name = tmp_path / ("a" * 300)
    for words in (
        ["suv", name],
        ["denoise", case["low"], "-o", name],
        ["quantify", case["low"], "--lesions", name],
        ["evaluate", name],
    ):
        line = refused(capfd, tmp_path, *words)
        assert "aaa" in line and ("too long" in line or "no such file" in line)


def test_a_configuration_is_not_written_where_there_is_no_folder(data, tmp_path, capfd):
    options = ["--preset", "tiny", "--dataset", data, "-o", tmp_path / "run"]
    for place in ("nowhere/training.json", "file/training.json", "data"):
        line = refused(capfd, tmp_path, "train", *options, "--write-config", tmp_path / place)
        assert str(tmp_path / place) in line and "--write-config" in line
