"""The documents for developers and users agree with the tree: packages, arrows, pages, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import REPOSITORY

ENGINE = REPOSITORY / "DRMCCore" / "drmc"
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])


def text_of(name: str) -> str:
    """A file of the repository."""
    return (REPOSITORY / name).read_text(encoding="utf-8")


def test_the_map_has_the_layers_of_the_import_contract():
    contract = re.search(r"^layers = \[\n(.*?)^\]", text_of("pyproject.toml"), re.M | re.S)[1]
    layers = [set(line.split(" | ")) for line in re.findall(r'"(.*?)"', contract)]
    table = text_of("ARCHITECTURE.md").partition("bottom to top\n")[2].partition("\n\nA package")[0]
    rows = [
        set(re.findall(r"`(\w+)`", line.split("|")[1]))
        for line in table.splitlines()
        if line.startswith("| `")
    ]
    assert rows == layers[::-1]
    packages = {path.parent.name for path in ENGINE.glob("*/__init__.py")}
    assert packages <= set.union(*rows)


def test_the_index_names_every_page():
    linked = set(re.findall(r"\]\((\w+\.md)\)", text_of("docs/index.md")))
    assert linked == {path.name for path in (REPOSITORY / "docs").glob("*.md")} - {"index.md"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path):
    text = document.read_text(encoding="utf-8")
    targets = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert not [target for target in targets if target and not (document.parent / target).exists()]
