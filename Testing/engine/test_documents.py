"""The documents for developers and users agree with the tree: packages, arrows, pages, links, options."""

from __future__ import annotations

import argparse
import functools
import importlib
import re
from pathlib import Path

import pytest
from drmc.cli.main import COMMANDS
from drmc.datasets.manifest import read_manifest
from drmc.imaging.files import write_image
from drmc.pet.reading import read_volume
from support import REPOSITORY
from support.engine.denoising_cases import GRID, suv_image

ENGINE = REPOSITORY / "DRMCCore" / "drmc"
# Options of Slicer, pip, torchrun and Slurm.
OTHER_PROGRAMS = {"--no-splash", "--no-main-window", "--python-script", "--extra-index-url"}
OTHER_PROGRAMS |= {"--standalone", "--nnodes", "--nproc-per-node", "--max-restarts", "--local-addr"}
OTHER_PROGRAMS |= {"--rdzv-backend", "--rdzv-endpoint", "--rdzv-conf", "--rdzv-id", "--requeue", "--signal"}
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


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_a_heading(document: Path):
    links = re.findall(r"\]\(([^)\s:]*)#([^)\s]+)\)", document.read_text(encoding="utf-8"))
    pages = {page: (document.parent / page if page else document).read_text("utf-8") for page, _ in links}
    assert not [f"{page}#{anchor}" for page, anchor in links if anchor not in anchors(pages[page])]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_options_are_those_of_a_command(document: Path):
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", document.read_text(encoding="utf-8")))
    assert named <= options() | OTHER_PROGRAMS


@functools.cache
def options() -> set[str]:
    """All options of `drmc`, and those of the batch scripts for Slicer."""
    found = {"--help", "--version"}
    for script in ("DRMCDenoise/Scripts/DRMCBatch.py", "DRMCTraining/Scripts/DRMCTrain.py"):
        found |= set(re.findall(r'"(--[a-z][a-z0-9-]+)"', text_of(script)))
    for module, _ in COMMANDS.values():
        parser = argparse.ArgumentParser()
        importlib.import_module(module).add_arguments(parser)
        found |= {name for action in parser._actions for name in action.option_strings}
    return found


def test_the_readme_is_short_and_names_what_starts():
    text = text_of("README.md")
    assert 60 <= len(text.splitlines()) <= 80
    commands = ("make demo", "make test", "pip install .", "drmc denoise", "Sample Data", "DRMCLowDosePET")
    assert all(command in text for command in commands)
    assert text.count("Research use only") == 1 and "Simulated patient" in text


def test_the_sidecars_of_the_page_are_read(tmp_path: Path):
    """One is an SUV, the other gives the SUV of an activity 60 minutes after 370 MBq in 70 kg."""
    examples = re.findall(r"```json\n(.*?)```", text_of("docs/data.md"), re.S)
    factors = []
    for place, example in enumerate(examples[:2]):
        write_image(tmp_path / f"{place}.nii.gz", suv_image() * 5000, GRID)
        (tmp_path / f"{place}.json").write_text(example)
        factors.append(read_volume(tmp_path / f"{place}.nii.gz", accept_rule="SUV").suv.factor)
    assert factors == [1, pytest.approx(70_000 / (370e6 * 2 ** (-3600 / 6586.2)), rel=1e-3)]


def test_the_manifest_of_the_page_is_read(tmp_path: Path):
    manifest = re.findall(r"```json\n(.*?)```", text_of("docs/data.md"), re.S)[2]
    (tmp_path / "dataset.json").write_text(manifest)
    folder = tmp_path / "A" / "case-1"
    folder.mkdir(parents=True)
    for name in ("full", "low_drf012", "lesions"):
        write_image(folder / f"{name}.nii.gz", suv_image(), GRID)
    (case,) = read_manifest(tmp_path)
    assert (case.patient, case.units, list(case.low), case.facts) == ("P1", "SUV", [12], folder / "pet.json")
    assert case.read(case.full).suv.factor == 1
