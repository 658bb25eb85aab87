"""docs/troubleshooting.md quotes the refusals of `drmc` as they are: each is made here and found there."""

from __future__ import annotations

import contextlib
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from drmc.denoising.staging import Claim
from drmc.imaging.files import write_image
from drmc.imaging.geometry import Geometry
from support import REPOSITORY
from support.engine.command_line import refused
from support.engine.denoising_cases import GRID, lesion_mask, suv_image, write_case
from support.engine.synthetic_dicom import write_series

PAGE = REPOSITORY / "docs" / "troubleshooting.md"
CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(autouse=True)
def only_model(default_model: Path) -> Path:
    """One tiny model; the shipped one is not needed to refuse."""
    return default_model


def series(folder: Path, **header: object) -> list[str]:
    """A series with these header values, to denoise."""
    write_series(folder / "pet", **header)
    return ["denoise", str(folder / "pet")]


def image(folder: Path, name: str = "scan.nii.gz", array: np.ndarray | None = None, **fields: str) -> Path:
    """An image that no side-car describes, unless by a field of its own."""
    write_image(folder / name, suv_image() if array is None else array, GRID, metadata=fields or None)
    return folder / name


def two_series(folder: Path) -> list[str]:
    write_series(folder / "pet")
    write_series(folder / "pet", names="second{:03d}.dcm".format)
    return ["denoise", str(folder / "pet")]


def truncated(folder: Path) -> list[str]:
    path = write_series(folder / "pet")[2]
    path.write_bytes(path.read_bytes()[:-200])
    return ["denoise", str(folder / "pet")]


def missing_slice(folder: Path) -> list[str]:
    write_series(folder / "pet")[2].unlink()
    return ["denoise", str(folder / "pet")]


def empty_folder(folder: Path) -> list[str]:
    (folder / "pet").mkdir()
    return ["denoise", str(folder / "pet")]


def several_scans(folder: Path) -> list[str]:
    for name in ("monday", "friday"):
        image(folder, f"{name}.nrrd", DRMC_voxel_units="SUVbw")
    return ["suv", str(folder)]


def two_affines(folder: Path) -> list[str]:
    """A NIfTI whose sform is moved by 10 mm and its qform is not."""
    path = image(folder, "scan.nii")
    content = bytearray(path.read_bytes())
    content[280 + 12 : 280 + 16] = struct.pack("<f", struct.unpack("<f", content[292:296])[0] + 10)
    path.write_bytes(content)
    return ["denoise", str(path), "--units", "suv"]


def four_dimensions(folder: Path) -> list[str]:
    sitk.WriteImage(sitk.Image([8, 8, 8, 3], sitk.sitkFloat32), str(folder / "scan.nii.gz"))
    return ["denoise", str(folder / "scan.nii.gz"), "--units", "suv"]


def with_lesions(folder: Path, array: np.ndarray, geometry: Geometry = GRID) -> list[str]:
    case = write_case(folder / "case")
    write_image(folder / "marks.nii.gz", array, geometry)
    return ["denoise", str(case["low"]), "--lesions", str(folder / "marks.nii.gz")]


def other_reference(folder: Path) -> list[str]:
    case = write_case(folder / "case")
    grid = Geometry((10, 12, 14), (3.0, 3.0, 3.0))
    write_image(folder / "full.nii.gz", np.ones(grid.shape, np.float32), grid)
    (folder / "full.json").write_text('{"Units": "SUV"}')
    return ["denoise", str(case["low"]), "--reference", str(folder / "full.nii.gz")]


def in_suv(folder: Path, *options: str) -> list[str]:
    return ["denoise", str(write_case(folder / "case")["low"]), *options]


def sidecar(folder: Path, **keys: object) -> list[str]:
    path = image(folder)
    (folder / "scan.json").write_text(json.dumps({"Units": "Bq/mL", **keys}))
    return ["denoise", str(path)]


def changed_weights(folder: Path) -> list[str]:
    path = folder / "models" / "tiny.pt"
    path.write_bytes(path.read_bytes() + b"x")
    return in_suv(folder)


def batch(folder: Path, *options: str) -> list[str]:
    for name in ("a", "b"):
        image(folder, f"{name}.nrrd", DRMC_voxel_units="SUVbw")
    return ["denoise", str(folder), *options]


AS_MINUTES = {"RadionuclideHalfLife": 109.77, "RadionuclideCodeValue": None, "RadionuclideCodeMeaning": None}
LATER = {"SeriesTime": "104500", "ActualFrameDuration": 300000}
REFUSALS: dict[str, Callable[[Path], list[str]]] = {
    "no such path": lambda folder: ["denoise", str(folder / "none")],
    "an empty folder": empty_folder,
    "a CT": lambda folder: series(folder, Modality="CT", SOPClassUID=CT_CLASS),
    "two series": two_series,
    "no attenuation correction": lambda folder: series(folder, CorrectedImage=["NORM", "DECY", "SCAT"]),
    "a dynamic series": lambda folder: series(folder, SeriesType=["DYNAMIC", "IMAGE"]),
    "several scans": several_scans,
    "a truncated file": truncated,
    "a missing slice": missing_slice,
    "4-D": four_dimensions,
    "sform and qform": two_affines,
    "no units": lambda folder: ["denoise", str(image(folder))],
    "no SUV": lambda folder: ["denoise", str(image(folder)), "--units", "bqml"],
    "a side-car without weight": lambda folder: sidecar(folder, ImageDecayCorrected=True),
    "counts": lambda folder: series(folder, Units="CNTS"),
    "no weight": lambda folder: series(folder, PatientWeight=None),
    "no dose": lambda folder: series(folder, RadionuclideTotalDose=None),
    "dose in mCi": lambda folder: series(folder, RadionuclideTotalDose=10.0),
    "half-life in minutes": lambda folder: series(folder, **AS_MINUTES),
    "reference times": lambda folder: series(folder, **LATER),
    "the image before the injection": lambda folder: series(
        folder, RadiopharmaceuticalStartTime="113000", RadiopharmaceuticalStartDateTime="20240229113000"
    ),
    "SUV too high": lambda folder: series(folder, array=suv_image() * 2e7),
    "a keyword": lambda folder: [*series(folder), "--header", "PatientName=X"],
    "no segmentation": lambda folder: in_suv(folder, "--lesions", str(folder / "none.nii.gz")),
    "another place": lambda folder: with_lesions(
        folder, lesion_mask(), Geometry(GRID.shape, GRID.spacing, (5000.0, 0.0, 0.0))
    ),
    "an image as lesions": lambda folder: with_lesions(folder, suv_image()),
    "no lesion": lambda folder: with_lesions(folder, np.zeros(GRID.shape, np.uint8)),
    "another grid": other_reference,
    "no model": lambda folder: in_suv(folder, "--model", "best"),
    "changed weights": changed_weights,
    "no CUDA": lambda folder: in_suv(folder, "--device", "cuda"),
    "a file as output": lambda folder: in_suv(folder, "-o", str(image(folder, "out.nrrd"))),
    "output in the input": lambda folder: batch(folder, "-o", str(folder / "results")),
    "DICOM from an image": lambda folder: in_suv(folder, "--format", "dicom"),
    "another run": lambda folder: in_suv(folder, "-o", str(folder / "busy")),
    "one value for all": lambda folder: batch(folder, "--header", "PatientWeight=70"),
    "not a batch": lambda folder: in_suv(folder, "--jobs", "2"),
    "a mistyped option": lambda folder: in_suv(folder, "--lesion", "x"),
}


def quotes() -> list[str]:
    """The messages that the page quotes, in order."""
    return re.findall(r"^\*\*`(.+)`\*\*<br>$", PAGE.read_text(encoding="utf-8"), re.M)


def is_of(line: str, quote: str) -> bool:
    """Whether a refusal is the quoted one: all of it, with anything where the quote has an ellipsis."""
    pattern = ".*".join(re.escape(part) for part in quote.split("…"))
    return re.fullmatch(f"drmc: {pattern}\n", line) is not None


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_quoted_once(name: str, capfd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    arguments = REFUSALS[name](tmp_path)
    if arguments[0] == "denoise" and "-o" not in arguments:
        arguments += ["-o", str(tmp_path / "output")]
    with Claim(tmp_path / "busy") if name == "another run" else contextlib.nullcontext() as claim:
        if claim is not None:
            claim.take()
        line = refused(capfd, tmp_path, *arguments)
    assert [quote for quote in quotes() if is_of(line, quote)] == [quotes()[list(REFUSALS).index(name)]], line


def test_every_quote_is_made_here():
    assert len(quotes()) == len(REFUSALS) > 30
