"""Makes the sample data again: `make sample-data`, or this file [--simulated DATASET | --numbers].

A simulated patient's trunk at low and at full dose with its lesions, cut to the body and rounded so finely
that nobody sees it, with what says where it comes from, and the lesions' numbers that the shipped model
gives. `drmc simulate` takes one to three minutes for it. `--numbers` measures the lesions again, after the
shipped model has changed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "Testing"), str(REPOSITORY / "DRMCCore")]

from drmc import files  # noqa: E402
from drmc.imaging.files import write_image  # noqa: E402
from drmc.imaging.geometry import Geometry  # noqa: E402
from drmc.pages.colors import inverted_gray  # noqa: E402
from drmc.pages.png import png  # noqa: E402
from drmc.pages.views import resized  # noqa: E402

FOLDER = REPOSITORY / "Resources" / "SampleData"
CARD = FOLDER / "DRMC-sample.json"
SEED, CENTER, DRF = 7, "C6", 12
SIMULATE = (
    *("simulate", "--centers", CENTER, "--patients", "1", "--split", "test", "--seed", str(SEED)),
    *("--axial-mm", "150", "--drf", str(DRF), "--device", "cpu"),
)
STEP = 1 / 256  # SUV, far below the noise of the full dose
MARGIN_MM = 12.0
THUMBNAIL = (260, 280)  # as Sample Data shows it
TOP = 6.0  # SUV that is black
UNITS = {"DRMC_voxel_units": "SUVbw"}  # what the engine reads in an NRRD's own fields


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulated", type=Path, help="a dataset that the command below has made already")
    parser.add_argument(
        "--numbers", action="store_true", help="measure the lesions of the present sample again"
    )
    asked = parser.parse_args()
    if asked.numbers:
        writeNumbers()
        return
    with tempfile.TemporaryDirectory() as scratch:
        dataset = asked.simulated or Path(scratch)
        if asked.simulated is None:
            print("simulating:", "drmc", *SIMULATE)
            subprocess.run([sys.executable, "-m", "drmc", *SIMULATE, "-o", str(dataset)], check=True)
        make(next((dataset / CENTER).iterdir()))
        writeNumbers()


def make(case: Path) -> None:
    """Writes the sample data from a simulated case."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    low, full, labels = (
        sitk.ReadImage(str(case / f"{name}.nii.gz")) for name in (f"low_drf{DRF:03d}", "full", "lesions")
    )
    low, full, labels = (image[bodyBox(full)] for image in (low, full, labels))
    arrays = [np.round(sitk.GetArrayFromImage(image) / STEP) * STEP for image in (low, full)]
    names = ("DRMC-sample-low.nrrd", "DRMC-sample-full.nrrd", "DRMC-sample-lesions.seg.nrrd")
    for array, name in zip(arrays, names, strict=False):
        write_image(FOLDER / name, array, Geometry.from_image(low), metadata=UNITS)
    facts = files.read_json_object(case / "pet.json")["Facts"]
    writeLesions(labels, facts["lesions"], FOLDER / names[2])
    writeThumbnail(arrays, sitk.GetArrayFromImage(labels), low.GetSpacing())
    files.write_json(
        CARD,
        {
            "title": f"Simulated patient, center {CENTER}, dose reduction factor {DRF}",
            "simulated": True,
            "units": "SUVbw (g/ml)",
            "center": CENTER,
            "tracer": facts["tracer"],
            "seed": SEED,
            "dose_reduction_factor": DRF,
            "command": " ".join(("drmc", *SIMULATE, "-o", "DATASET")),
            "afterwards": f"cut to the body with {MARGIN_MM:g} mm around it, "
            f"rounded to 1/{round(1 / STEP)} SUV "
            "(Testing/host/make_sample_data.py)",
            "license": "Apache-2.0, as the software; no real patient's data",
            "files": {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in names},
        },
    )
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.stat().st_size / 1e6:6.2f} MB  {path.name}")


def writeNumbers() -> None:
    """Denoises the sample with the shipped model; the lesions' numbers go into the card, for self tests."""
    card = files.read_json_object(CARD)
    with tempfile.TemporaryDirectory() as scratch:
        low, lesions = FOLDER / "DRMC-sample-low.nrrd", FOLDER / "DRMC-sample-lesions.seg.nrrd"
        command = (
            "denoise",
            str(low),
            "-o",
            scratch,
            "--lesions",
            str(lesions),
            "--device",
            "cpu",
            "--precision",
            "fp32",
        )
        subprocess.run([sys.executable, "-m", "drmc", *command], check=True)
        model = files.read_json_object(Path(scratch) / "summary.json")["model"]
        with open(Path(scratch) / "lesions.csv", newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["stage"] in ("original", "denoised")]
    numbers: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        stages = numbers.setdefault(row["segment"], {})
        stages[row["stage"]] = {key: float(row[key]) for key in ("suv_mean", "suv_max", "suv_peak")}
    denoised = {"model": model["name"], "sha256": model["sha256"], "lesions": numbers}
    files.write_json(CARD, {**card, "denoised": denoised})


def bodyBox(full: sitk.Image) -> tuple[slice, slice, slice]:
    """The box (x, y, z) around the body with a margin, all slices of it."""
    body = sitk.GetArrayFromImage(full).mean(axis=0) > 0.1
    box = []
    for axis in (0, 1):  # x, then y
        found = np.flatnonzero(body.any(axis=axis))
        margin = round(MARGIN_MM / full.GetSpacing()[axis])
        last = min(int(found[-1]) + 1 + margin, full.GetSize()[axis])
        box.append(slice(max(0, int(found[0]) - margin), last))
    return (*box, slice(None))


def writeLesions(labels: sitk.Image, lesions: list[dict], path: Path) -> None:
    """The lesions within the image as a segmentation, named by host and diameter, by Slicer's own code."""
    import host

    slicer = host.start(withQt=False)
    from DRMCCoreLib.nodes.geometry import imageMatrix

    array = sitk.GetArrayFromImage(labels)
    matrix = imageMatrix(labels.GetSpacing(), labels.GetOrigin(), labels.GetDirection())
    volume = slicer.util.addVolumeFromArray(array, matrix, "Grid")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lesions")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for lesion in lesions:
        mask = array == lesion["label"]
        if mask.any():
            name = f"{lesion['host'].replace('_', ' ').capitalize()}, {lesion['diameter_mm']:.0f} mm"
            segment = node.GetSegmentation().AddEmptySegment(f"Lesion_{lesion['label']}", name)
            node.GetSegmentation().GetSegment(segment).SetColor(0.0, 0.6, 0.25)  # a new one's color is random
            slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segment, volume)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not storage.WriteData(node):
        raise OSError(f"{path} cannot be written")


def writeThumbnail(arrays: list[np.ndarray], labels: np.ndarray, spacing: tuple[float, float, float]) -> None:
    """The axial slice through the largest lesion in inverted gray, low dose above full dose."""
    width, height = THUMBNAIL
    z = int(np.argmax((labels > 0).sum(axis=(1, 2))))
    step = max(arrays[0].shape[2] * spacing[0] / width, arrays[0].shape[1] * spacing[1] / (height // 2 - 2))
    canvas = np.zeros((height, width), np.float32)
    for array, middle in zip(arrays, (height // 4, 3 * height // 4), strict=True):
        picture = resized(array[z], (spacing[1], spacing[0]), step)
        rows, columns = picture.shape
        top, left = middle - rows // 2, (width - columns) // 2
        canvas[top : top + rows, left : left + columns] = picture
    with files.atomic_path(FOLDER / "DRMC-sample.png") as path:
        path.write_bytes(png(inverted_gray(canvas, TOP)))


if __name__ == "__main__":
    main()
