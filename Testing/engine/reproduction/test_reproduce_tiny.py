"""`drmc reproduce --tiny`: patients, every method, every table and figure, with nothing that fails."""

from __future__ import annotations

import csv

from drmc.cli.main import main
from drmc.reproduction.paper import paper_rows


def test_all_of_it_in_small(tmp_path, capsys):
    assert main(["reproduce", "--tiny", "-o", str(tmp_path / "out")]) == 0
    assert "paper.html" in capsys.readouterr().out
    with open(tmp_path / "out" / "paper.csv", newline="") as file:
        cells = list(csv.DictReader(file))
    for table in range(2, 8):
        rows = {cell["row"] for cell in cells if cell["table"] == str(table)}
        assert set(paper_rows(table)) <= rows
    # every cell of the images is there; small windows hold no lesion at some centers
    gaps = [cell for cell in cells if not cell["ours"] and not cell["metric"].startswith("B_")]
    assert gaps == []
    figures = {path.stem for path in (tmp_path / "out" / "paper-figures").iterdir()}
    expected = {f"experts-C{k}" for k in range(1, 7)} | {
        f"figure-3{f}-{c}" for f in "cd" for c in ("C_kn", "C_ukn")
    }
    expected |= {
        f"interference-{step}-block-{b}-{bank}"
        for step in (3, 6)
        for b in (1, 3)
        for bank in ("attention", "ffn")
    }
    assert figures == expected
