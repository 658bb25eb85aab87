"""The simulated patient that comes with the extension, in Slicer's module Sample Data and for tests.

What it is and how to make it again stands in Resources/SampleData/DRMC-sample.json.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import slicer
from drmc.errors import InputError

from DRMCCoreLib.nodes.petreader import FILE_TYPE

CATEGORY = "Nuclear Medicine"
SAMPLE_NAME = "DRMCLowDosePET"
# Which file becomes which node, and how Slicer calls its kind.
FILES = {
    "DRMC-sample-low.nrrd": ("PET low dose (simulated)", FILE_TYPE),
    "DRMC-sample-full.nrrd": ("PET full dose (simulated)", FILE_TYPE),
    "DRMC-sample-lesions.seg.nrrd": ("Lesions (simulated)", "SegmentationFile"),
}


def sampleFolder() -> Path:
    """The folder with the sample data, in the source tree or the installed extension.

    Raises InputError where it is missing.
    """
    here = Path(__file__).resolve()
    for level in (3, 2):
        folder = here.parents[level] / "Resources" / "SampleData"
        if (folder / "DRMC-sample.json").is_file():
            return folder
    raise InputError("the sample data is not installed: install the extension again")


def registerSampleData() -> None:
    """Adds the patient to the module Sample Data; nothing where that module or the files are missing."""
    try:
        from SampleData import SampleDataLogic

        folder = sampleFolder()
        checksums = _checksums(folder)
    except (ImportError, InputError):
        return
    SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=SAMPLE_NAME,
        uris=[(folder / name).as_uri() for name in FILES],
        fileNames=list(FILES),
        nodeNames=[node for node, _kind in FILES.values()],
        loadFileTypes=[kind for _node, kind in FILES.values()],
        loadFiles=[True] * len(FILES),
        checksums=[f"SHA256:{checksums[name]}" for name in FILES],
        thumbnailFileName=str(folder / "DRMC-sample.png"),
        customDownloader=loadSample,
    )


def loadSample(source=None) -> list:
    """Loads the patient into the scene: low dose, full dose (volumes in SUV) and lesions (a segmentation).

    Works offline, from the installed files. `source` is what Sample Data passes and is not
    needed. Raises InputError if a file is missing or damaged.
    """
    folder = sampleFolder()
    for name, checksum in _checksums(folder).items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            raise InputError(f"{path} is missing or damaged: install the extension again")
    nodes = []
    for name, (nodeName, kind) in FILES.items():
        node = slicer.util.loadNodeFromFile(str(folder / name), kind, {"name": nodeName, "show": False})
        if node.GetStorageNode() is not None:  # or saving the scene would write into the extension's folder
            slicer.mrmlScene.RemoveNode(node.GetStorageNode())
        nodes.append(node)
    slicer.util.setSliceViewerLayers(background=nodes[0], fit=True)
    return nodes


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file, as what was made with them says."""
    return json.loads((folder / "DRMC-sample.json").read_text(encoding="utf-8"))["files"]
