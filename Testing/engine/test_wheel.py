"""The wheel: its files, its metadata, and that it denoises a scan where there is no checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.message import Message
from email.parser import BytesParser
from importlib import metadata
from pathlib import Path

import drmc
import pytest
from support import REPOSITORY

ENGINE = REPOSITORY / "DRMCCore" / "drmc"
HOMEPAGE = "https://github.com/DRMC-PET/SlicerDRMC"


def text_of(name: str) -> str:
    """A file of the repository's top folder."""
    return (REPOSITORY / name).read_text(encoding="utf-8")


def without_checkout() -> dict[str, str]:
    """The environment without what leads to the checkout, a user's models or the network."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DRMC_", "PIP_"))
    }
    nowhere = dict.fromkeys(("XDG_DATA_HOME", "LOCALAPPDATA"), str(REPOSITORY / "no-such-folder"))
    return {**kept, **nowhere, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def call(*command: str | Path, cwd: Path) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=without_checkout(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without network from a copy of the sources, so that the checkout stays as it is."""
    needed = {"pip": 22, "setuptools": 77}  # pip: `--python`
    for name, least in needed.items():
        try:
            found = int(metadata.version(name).partition(".")[0])
        except metadata.PackageNotFoundError:
            found = 0
        if found < least:
            reason = f"{name} {least} or later is needed to build the wheel, here is {found or 'none'}"
            (pytest.fail if os.environ.get("DRMC_TEST_STRICT") == "1" else pytest.skip)(reason)
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    shutil.copytree(ENGINE, sources / "DRMCCore" / "drmc", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, sources)
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation")
    call(*pip, "--wheel-dir", folder / "dist", sources, cwd=folder)
    (built,) = (folder / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """Commands of a fresh virtual environment with the wheel and, by a path file, our dependencies."""
    folder = wheel.parents[1] / "environment"
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=wheel.parent)
    commands = folder / ("Scripts" if os.name == "nt" else "bin")
    python = commands / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps")
    call(*pip, wheel, cwd=wheel.parent)
    own = Path(
        call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    # Path files in these folders, as that of an editable drmc, are not read from here.
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own / "dependencies.pth").write_text("\n".join(sorted(paths)) + "\n", encoding="utf-8")
    return commands


@pytest.fixture(scope="module")
def about(wheel: Path) -> Message:
    """The wheel's METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return BytesParser().parsebytes(archive.read(name))


def test_it_holds_the_engine_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        weights = archive.read("drmc/models/data/drmc-any.pt")
    expected = {
        path.relative_to(ENGINE.parent).as_posix()
        for path in ENGINE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == expected
    shipped = {f"drmc/models/data/drmc-any{ending}" for ending in (".json", ".evaluation.json")}
    assert {*shipped, "drmc/simulation/centers.json"} <= held
    assert not [name for name in held if re.search(r"(^|/)(test|conftest)", name, re.IGNORECASE)]
    assert weights == (ENGINE / "models" / "data" / "drmc-any.pt").read_bytes()


def test_its_metadata(wheel: Path, about: Message):
    assert (about["Name"], about["Version"]) == ("drmc", drmc.__version__)
    assert about["License-Expression"] == "Apache-2.0" and about["License-File"] == "LICENSE"
    assert f"Homepage, {HOMEPAGE}" in about.get_all("Project-URL")
    assert about["Author"] == "DRMC contributors"
    assert not [one for one in about.get_all("Classifier") if one.startswith("License ::")]  # PEP 639
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith("entry_points.txt"))
        assert "drmc = drmc.cli.main:main" in archive.read(name).decode()


def test_the_version_is_said_once():
    cited = re.search(r"^version: (\S+)$", text_of("CITATION.cff"), re.M)[1]
    assert cited == drmc.__version__
    project = text_of("pyproject.toml").partition("[project.optional-dependencies]")[0]
    assert 'dynamic = ["version"]' in project and not re.search(r"^version\b", project, re.M)
    newest = re.search(r"^## (\S+)", text_of("CHANGELOG.md"), re.M)[1]
    assert newest == drmc.__version__


def test_all_metadata_name_the_same_project():
    assert f"repository-code: {HOMEPAGE}\n" in text_of("CITATION.cff")
    assert "license: Apache-2.0\n" in text_of("CITATION.cff")
    assert text_of("LICENSE").lstrip().startswith("Apache License")
    assert f'"{HOMEPAGE}.git"' in text_of("DRMC.json") and f'"{HOMEPAGE}"' in text_of("CMakeLists.txt")


def test_it_denoises_the_sample_outside_of_the_checkout(installed: Path, tmp_path: Path):
    shutil.copy(REPOSITORY / "Resources" / "SampleData" / "DRMC-sample-low.nrrd", tmp_path / "low.nrrd")
    where = call(installed / "python", "-c", "import drmc; print(drmc.__file__)", cwd=tmp_path).strip()
    assert Path(where).resolve().is_relative_to(installed.parent.resolve())
    command = (installed / "drmc", "denoise", tmp_path / "low.nrrd", "-o", tmp_path / "out")
    call(*command, "--device", "cpu", "--format", "nrrd", cwd=tmp_path)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    card = json.loads((ENGINE / "models" / "data" / "drmc-any.json").read_text(encoding="utf-8"))
    assert (summary["model"]["name"], summary["model"]["sha256"]) == ("drmc-any", card["sha256"])
    assert summary["versions"]["drmc"] == drmc.__version__ and summary["tiles"]["count"] > 1
    assert {"denoised.nrrd", "report.html", "routing.csv"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
