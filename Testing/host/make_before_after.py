"""Makes the picture on top of the README again: `make before-after`. No test; look at it.

A simulated whole body of center C1 at a twelfth of the dose, what the shipped model makes of it, and the full
dose: coronal maximum-intensity projections on one gray scale. Simulating takes some ten minutes of one core;
`--case FOLDER` takes a case that is there already.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "DRMCCore")]

import numpy as np  # noqa: E402
from drmc.pages.colors import inverted_gray  # noqa: E402
from drmc.pages.views import anatomical_spacing, resized, to_anatomical  # noqa: E402
from drmc.pet.reading import read_volume  # noqa: E402
from PySide6 import QtCore, QtGui  # noqa: E402

PICTURE = REPOSITORY / "Resources" / "Screenshots" / "before-after.png"
CENTER, DRF, SEED = "C1", 12, 7
SIMULATE = (
    *("simulate", "--centers", CENTER, "--patients", "1", "--split", "test", "--seed", str(SEED)),
    *("--drf", str(DRF), "--device", "cpu"),
)
DENOISE = ("--device", "cpu", "--precision", "fp32", "--format", "nrrd")
MM_PER_PIXEL = 2.2
TOP = 7.0  # SUV that is black
GAP, HEAD, FOOT = 24, 34, 24  # pixels between the projections, and of the lines of text
LARGEST = 300_000  # bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=Path, help="folder of a case that the command above has made already")
    parser.add_argument("--output", type=Path, default=PICTURE)
    options = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    with tempfile.TemporaryDirectory() as scratch:
        case = options.case
        if case is None:
            run(*SIMULATE, "-o", scratch)
            (case,) = (Path(scratch) / CENTER).iterdir()
        low = case / f"low_drf{DRF:03d}.nii.gz"
        run("denoise", str(low), "-o", str(Path(scratch) / "out"), *DENOISE)
        images = {
            f"Low dose (1/{DRF})": low,
            "Denoised": Path(scratch) / "out" / "denoised.nrrd",
            "Full dose": case / "full.nii.gz",
        }
        pictures = {title: projection(path) for title, path in images.items()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    save(sheet(pictures), options.output)


def run(*arguments: str) -> None:
    print("drmc", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "drmc", *arguments], check=True)


def projection(path: Path) -> np.ndarray:
    """Coronal maximum-intensity projection of an image in SUV, uint8 (rows, columns), square pixels."""
    volume = read_volume(path)
    geometry = volume.geometry
    rows_mm, _, columns_mm = anatomical_spacing(geometry.spacing_zyx, geometry.direction)
    highest = to_anatomical(volume.suv_array(), geometry.direction).max(axis=1)
    return inverted_gray(resized(highest, (rows_mm, columns_mm), MM_PER_PIXEL), TOP)


def sheet(pictures: dict[str, np.ndarray]) -> QtGui.QImage:
    """The projections beside each other, cut to the widest body, with their titles and what they are."""
    application = QtGui.QGuiApplication.instance() or QtGui.QGuiApplication([])
    (full,) = list(pictures.values())[-1:]
    columns = np.flatnonzero((full < 250).any(axis=0))
    cut = slice(max(0, int(columns[0]) - 8), int(columns[-1]) + 9)
    bodies = {title: picture[:, cut] for title, picture in pictures.items()}
    rows, width = full[:, cut].shape
    image = QtGui.QImage(
        len(bodies) * (width + GAP) - GAP, HEAD + rows + FOOT, QtGui.QImage.Format.Format_Grayscale8
    )
    image.fill(255)
    painter = QtGui.QPainter(image)
    font = QtGui.QFont("DejaVu Sans")
    for place, (title, body) in enumerate(bodies.items()):
        left = place * (width + GAP)
        pixels = np.ascontiguousarray(body)
        painter.drawImage(
            left, HEAD, QtGui.QImage(pixels.data, width, rows, width, QtGui.QImage.Format.Format_Grayscale8)
        )
        font.setPixelSize(17)
        painter.setFont(font)
        painter.drawText(QtCore.QRect(left, 0, width, HEAD), QtCore.Qt.AlignmentFlag.AlignCenter, title)
    font.setPixelSize(13)
    painter.setFont(font)
    said = f"Simulated patient, FDG, center {CENTER}; SUV 0 to {TOP:g}. Research use only."
    painter.drawText(
        QtCore.QRect(0, HEAD + rows, image.width(), FOOT), QtCore.Qt.AlignmentFlag.AlignCenter, said
    )
    painter.end()
    del application
    return image


def save(image: QtGui.QImage, path: Path) -> None:
    """Writes the picture, small enough for a README."""
    if not image.save(str(path), "PNG", 0):
        raise OSError(f"{path} cannot be written")
    size = path.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{path} is larger than {LARGEST / 1000:.0f} kB: use larger pixels")
    print(f"{path.name}: {image.width()} x {image.height()}, {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
