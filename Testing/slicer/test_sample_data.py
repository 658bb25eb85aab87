"""The shipped patient: complete, registered in Sample Data, loaded as SUV, accepted by the engine."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from support import REPOSITORY

FOLDER = REPOSITORY / "Resources" / "SampleData"
CARD = json.loads((FOLDER / "DRMC-sample.json").read_text(encoding="utf-8"))


@pytest.fixture
def sources(slicer, monkeypatch):
    """What Sample Data knows after Slicer's start, by category."""
    from host import sampledata

    monkeypatch.setitem(sys.modules, "SampleData", sampledata.module())
    monkeypatch.delattr(slicer.modules, "sampleDataSources", raising=False)
    slicer.modules.sampleDataSources = {}
    yield slicer.modules.sampleDataSources
    del slicer.modules.sampleDataSources


def test_the_files_are_what_their_card_says():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 4e6
    for name, checksum in CARD["files"].items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == checksum
    assert CARD["simulated"] is True and f"--seed {CARD['seed']} " in CARD["command"]
    assert f"--centers {CARD['center']} " in CARD["command"]
    head = (FOLDER / "DRMC-sample.png").read_bytes()[:24]
    assert struct.unpack(">II", head[16:24]) == (260, 280)


def test_the_command_on_the_card_is_one_that_drmc_knows():
    """The arguments are accepted: what it would simulate is the center and the seed on the card."""
    from drmc.cli import main as cli

    words = CARD["command"].split()
    asked = cli._parser(words[1:]).parse_args(words[1:])
    assert asked.seed == CARD["seed"] and CARD["center"] in str(asked.centers) and words[0] == "drmc"


def test_the_engine_reads_it_as_suv():
    from drmc.pet.reading import read_volume

    low, full = (read_volume(FOLDER / f"DRMC-sample-{dose}.nrrd") for dose in ("low", "full"))
    assert low.suv.rule == full.suv.rule == "declared" and low.suv.factor == full.suv.factor == 1.0
    assert "plausible" not in " ".join(low.suv.notices)  # said by the file, not guessed
    assert low.geometry.matches(full.geometry)
    body = full.array > 0.3
    assert abs(low.array[body].mean() / full.array[body].mean() - 1) < 0.05
    assert (low.array - full.array)[body].std() > 0.2  # there is something to denoise


def test_sample_data_gets_it_once_at_start(qtSlicer, sources):
    qtSlicer.app._signals.startupCompleted.emit()
    qtSlicer.app._signals.startupCompleted.emit()
    (source,) = sources["Nuclear Medicine"]
    for uri, checksum in zip(source.uris, source.checksums, strict=True):
        with urllib.request.urlopen(uri) as file:  # as Sample Data fetches it, and offline
            assert f"SHA256:{hashlib.sha256(file.read()).hexdigest()}" == checksum
    assert source.loadFileTypes == ["DRMCPETFile", "DRMCPETFile", "SegmentationFile"] and all(
        source.loadFiles
    )
    assert Path(source.thumbnailFileName).is_file()


def test_a_click_loads_it_as_suv_with_named_lesions(slicer, sources, tmp_path):
    from DRMCCoreLib.nodes.sampledata import registerSampleData

    registerSampleData()
    (source,) = sources["Nuclear Medicine"]
    assertLoaded(slicer, source.customDownloader(source), tmp_path)


def test_a_script_loads_it_as_suv_with_named_lesions(slicer, sources, tmp_path):
    """SampleData.downloadSample takes the files one by one and never asks for a loader of our own."""
    import SampleData
    from DRMCCoreLib.nodes.sampledata import SAMPLE_NAME, registerSampleData

    registerSampleData()
    assertLoaded(slicer, SampleData.downloadSamples(SAMPLE_NAME), tmp_path)


def assertLoaded(slicer, nodes, tmp_path):
    from drmc.pages.windows import DEFAULT_WINDOW
    from DRMCCoreLib.nodes.volumes import engineInput

    ((source,),) = slicer.modules.sampleDataSources.values()
    low, full, lesions = nodes
    assert [node.GetName() for node in (low, full, lesions)] == source.nodeNames
    for node in (low, full):
        assert node.GetVoxelValueUnits().GetCodeValue() == "{SUVbw}g/ml"
        assert node.GetVoxelValueQuantity().GetCodeValue() == "126400"
        assert node.GetStorageNode() is None  # saving the scene must not write into the extension's folder
        display = node.GetDisplayNode()
        assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, DEFAULT_WINDOW)
    assert json.loads(engineInput(low, tmp_path).path.with_suffix(".json").read_text()) == {"Units": "SUV"}
    segmentation = lesions.GetSegmentation()
    names = [segmentation.GetSegment(one).GetName() for one in segmentation.GetSegmentIDs()]
    assert names == list(CARD["denoised"]["lesions"]) and len(names) >= 3
    diameters = [float(name.split(",")[1].removesuffix("mm")) for name in names]
    chosen = segmentation.GetSegmentIDs()[int(np.argmax(diameters))]
    largest = slicer.util.arrayFromSegmentBinaryLabelmap(lesions, chosen, full) > 0
    array = slicer.util.arrayFromVolume(full)
    assert array[largest].mean() > 2 * np.median(array[array > 0.5])


def test_without_sample_data_or_without_the_files_nothing_happens(slicer, sources, monkeypatch, tmp_path):
    from drmc.errors import InputError
    from DRMCCoreLib.nodes import sampledata

    monkeypatch.setitem(sys.modules, "SampleData", None)
    sampledata.registerSampleData()
    monkeypatch.undo()
    monkeypatch.setattr(
        sampledata, "__file__", str(tmp_path / "a" / "DRMCCoreLib" / "nodes" / "sampledata.py")
    )
    sampledata.registerSampleData()
    with pytest.raises(InputError, match="not installed"):
        sampledata.loadSample()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0


def test_where_the_extension_is_installed(slicer, monkeypatch, tmp_path):
    """Installed, library and resources lie side by side; a damaged file is refused."""
    from drmc.errors import InputError
    from DRMCCoreLib.nodes import sampledata

    folder = tmp_path / "Resources" / "SampleData"
    folder.mkdir(parents=True)
    for name in ("DRMC-sample.json", "DRMC-sample-low.nrrd"):
        (folder / name).write_bytes((FOLDER / name).read_bytes())
    monkeypatch.setattr(sampledata, "__file__", str(tmp_path / "DRMCCoreLib" / "nodes" / "sampledata.py"))
    assert sampledata.sampleFolder() == folder
    with pytest.raises(InputError, match=r"full\.nrrd is missing or damaged"):
        sampledata.loadSample()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0
