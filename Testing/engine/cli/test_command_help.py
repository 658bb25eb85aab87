"""The help of `drmc`, what it answers to mistyped words, and the list of models."""

from __future__ import annotations

import json
import re

import pytest
from drmc.cli.main import GROUPS, main
from support.engine.command_line import refused


def test_help_lists_each_command_once_in_its_group(capsys):
    assert main(["--help"]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    listed = {
        block.partition(":\n")[0]: re.findall(r"^    (\w+)  ", block, re.M)
        for block in blocks
        if ":\n    " in block
    }
    assert listed == {title: list(group) for title, group in GROUPS.items()}
    assert list(listed) == ["daily use", "training", "developers"]


@pytest.mark.parametrize("command", ["denoise", "segment", "suv", "candidates", "quantify"])
def test_help_speaks_of_nothing_that_the_command_does_not_have(command, capsys):
    assert main([command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    own = set(re.findall(r"\b(INPUT|SCAN|IMAGE)\b", text.partition("positional arguments:")[0]))
    assert len(own) == 1 and set(re.findall(r"\b(INPUT|SCAN|IMAGE)\b", text)) == own
    if "--reference FULLDOSE" not in text:
        assert not re.search(r"\breferences?\b(?!-time)", text.partition("options:")[2])


def test_without_arguments_the_help_goes_to_standard_error(capfd):
    """Exit code 2, as of wrong usage: a script that has lost its arguments does not go on."""
    assert main(["--help"]) == 0
    text = capfd.readouterr().out
    assert main([]) == 2
    assert capfd.readouterr() == ("", text)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ("denois scan -o out", "denoise"),
        ("deniose scan -o out", "denoise"),
        ("eval x.json", "evaluate"),
        ("model", "models"),
        ("denoise scan -o out --lesion x", "--lesions"),
        ("denoise scan --ouput out", "--output"),  # of which argparse says that -o is missing
        ("denoise scan -o out --refernce=full", "--reference"),
        ("models --jsn", "--json"),
    ],
)
def test_what_is_mistyped_is_named_with_what_was_meant(capfd, tmp_path, arguments, meant):
    words = arguments.split()
    wrong = next((word for word in words if word.startswith("--")), words[0]).partition("=")[0]
    line = refused(capfd, tmp_path, *words)
    assert re.search(rf"no (command|option) {wrong}; did you mean {meant}\b.*\? See drmc .*--help$", line)


def test_what_is_too_much_is_named_with_the_help_of_its_command(capfd, tmp_path):
    assert refused(capfd, tmp_path, "suv", "a", "b", "-x").endswith(": b -x; see drmc suv --help\n")


@pytest.mark.parametrize("number", ["-1", "0.5", "many"])
def test_a_seed_is_a_whole_number(capfd, tmp_path, number):
    line = refused(capfd, tmp_path, "spots", "scan", "--seed", number)
    assert line.endswith(f"--seed: '{number}' is no whole number of at least 0; see drmc spots --help\n")


def test_nothing_far_is_suggested_and_values_are_no_options(capfd, tmp_path):
    for words in (["frobnicate"], ["denoise", "scan", "-o", "out", "--frobnicate"]):
        assert "did you mean" not in refused(capfd, tmp_path, *words)
    # What follows `--`, and a value with a space, may begin with dashes.
    assert "--scan" in refused(capfd, tmp_path, "suv", "--", "--scan")
    assert "-- my scan" in refused(capfd, tmp_path, "suv", "-- my scan")


def test_the_list_of_models_has_a_short_block_each(capsys, models):
    card = json.loads((models / "tiny.json").read_text())
    begun = {"name": "first", "training": {"simulated": True, "patients": {"C1": 3}, "steps": 7}}
    training = {"simulated": False, "patients": {"A": 2, "B": 1}, "steps": 40, "seconds": 185}
    training |= {"configuration": {"channels": 8}, "initial_weights": begun}
    (models / "tiny.json").write_text(json.dumps({**card, "training": training}))
    assert main(["models"]) == 0
    *_, block = capsys.readouterr().out.partition("\ntiny: ")
    head, *facts, last = block.splitlines()
    assert head == "a tiny network  (default)" and "drmc models --json" in last
    assert all(re.match(r"  [a-z][a-z0-9 ]*: \S", line) for line in facts) and len(facts) <= 10
    earlier = "begun from first (simulated patients (C1 3), steps 7)"
    assert f"  training: real patients (A 2, B 1), steps 40, 3 min 05 s, {earlier}" in facts
    unknown = {"steps": 2, "initial_weights": {"name": "first"}}
    (models / "tiny.json").write_text(json.dumps({**card, "training": unknown}))
    assert main(["models"]) == 0
    assert "training: steps 2, begun from first (its training is not stated)" in capsys.readouterr().out
