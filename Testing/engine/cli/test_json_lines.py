"""`--progress json` of commands that only write or list something: JSON lines and nothing else."""

from __future__ import annotations

import json

import pytest
from drmc.cli.main import main

COMMANDS = {
    "configuration": [
        "train",
        "--preset",
        "tiny",
        "--dataset",
        "DATA",
        "-o",
        "OUT",
        "--write-config",
        "FILE",
    ],
    "curves": ["train", "--preset", "tiny", "--dataset", "DATA", "-o", "OUT", "--page"],
    "queue": ["reproduce", "--tiny", "-o", "OUT", "--list"],
    "page": ["reproduce", "--tiny", "-o", "OUT", "--page-only"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_written_or_listed_is_a_json_line(command, tmp_path, capfd):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "training.jsonl").write_text('{"event": "started", "step": 0, "steps": 1}\n')
    places = {"DATA": tmp_path / "data", "OUT": tmp_path / "out", "FILE": tmp_path / "training.json"}
    words = [str(places.get(word, word)) for word in COMMANDS[command]]
    assert main([*words, "--progress", "json"]) == 0
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [record["event"] for record in records] == ["result"]
    assert main(words) == 0
    assert not capfd.readouterr().out.startswith("{")
