"""The paper's own numbers, from paper_tables.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("paper_tables.json")


@dataclass(frozen=True)
class PaperCell:
    """A cell of the paper's tables: as it is printed, whether it is marked, and what is known about it."""

    text: str
    significant: str
    note: str

    @property
    def value(self) -> float | None:
        """The number; None where the cell has none, or cannot be read."""
        return float(self.text) if self.text else None

    @property
    def shown(self) -> str:
        """As printed, with a star where the paper marks p < 0.05."""
        return self.text + "*" * (self.significant == "yes" and bool(self.text))


@cache
def paper_cells() -> dict[tuple[int, str, str, str], PaperCell]:
    """All cells by table, row, column and metric (PSNR, SSIM, B_mean, B_max)."""
    content = json.loads(_FILE.read_text(encoding="utf-8"))
    found = {}
    for cell in content["cells"]:
        values = dict(zip(content["columns"], cell, strict=True))
        key = (values["table"], values["row"], values["column"], values["metric"])
        found[key] = PaperCell(values["text"], values["significant"], values["note"])
    return found


def paper_source() -> str:
    """Where the numbers are from."""
    return json.loads(_FILE.read_text(encoding="utf-8"))["source"]


def paper_rows(table: int) -> list[str]:
    """The names of a table's rows, in their order."""
    return list(dict.fromkeys(row for number, row, _, _ in paper_cells() if number == table))
