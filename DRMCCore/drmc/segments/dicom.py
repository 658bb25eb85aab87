"""Lesions in DICOM: reads the one SEG or RTSTRUCT object of a file or folder as named label images."""

from __future__ import annotations

import warnings

import pydicom
import SimpleITK as sitk
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from drmc.dicom.catalog import Catalog
from drmc.dicom.finding import FileKind, kind_of
from drmc.dicom.header import DEEPEST, UNDEFINED_LENGTH, value_of
from drmc.errors import InputError
from drmc.imaging.geometry import Geometry
from drmc.paths import AnyPath, part, plain

SEGMENTATION, STRUCTURE_SET = "SEG", "RTSTRUCT"


def read_dicom_segments(
    path: AnyPath,
    geometry: Geometry,
    frame_of_reference: str | None = None,
    series_uid: str | None = None,
    catalog: Catalog | None = None,
) -> tuple[list[tuple[str, sitk.Image]], list[str]]:
    """Name and label image (0 and 1) of every segment or region of a DICOM object, and notices.

    Args:
        path: the file of a Segmentation or RT Structure Set, or a folder that contains exactly one (files of
            other kinds do not count).
        geometry: the grid of the scan.
        frame_of_reference: FrameOfReferenceUID (0020,0052) of the scan; an object with another one is
            refused, unless it references the scan in another way, such as by `series_uid`.
        series_uid: SeriesInstanceUID (0020,000E) of the scan.
        catalog: what was read of DICOM files before.

    Raises:
        InputError: the object is missing, ambiguous, damaged, of another kind, or was not drawn on this scan.
    """
    from drmc.segments import dicom_seg, rtstruct

    catalog = catalog or Catalog()
    if path.is_dir():
        path = _only_object(path, catalog)
    dataset = _read(path, catalog)
    modality = _modality(dataset)
    if modality == SEGMENTATION:
        return dicom_seg.read_segmentation(dataset, path, geometry, frame_of_reference, series_uid)
    if modality == STRUCTURE_SET:
        return rtstruct.read_structure_set(dataset, path, geometry, frame_of_reference, series_uid)
    raise InputError(
        f"{path} has {modality or 'no modality'} (Modality (0008,0060)), which holds no lesions: use a DICOM "
        "SEG or RTSTRUCT, a label image or a .seg.nrrd"
    )


def _only_object(folder: AnyPath, catalog: Catalog) -> AnyPath:
    files = catalog.dicom_files(plain(folder))
    modalities = {file: _modality(catalog.header(part(folder, file)).dataset) for file in files}
    found = [file for file, modality in modalities.items() if modality in (SEGMENTATION, STRUCTURE_SET)]
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:4])
        raise InputError(
            f"{folder} contains {len(found)} DICOM SEG or RTSTRUCT objects ({names}): choose one of these "
            "files"
        )
    if not found:
        raise InputError(
            f"{folder} contains no DICOM SEG or RTSTRUCT: choose the file with the lesions, or its folder"
        )
    return part(folder, found[0])


def _read(path: AnyPath, catalog: Catalog) -> Dataset:
    try:
        with warnings.catch_warnings(), catalog.opened(path) as file:
            warnings.simplefilter("ignore")
            if kind_of(file) is FileKind.OTHER:
                raise InputError(f"{path} is not a DICOM file: it is truncated or damaged, copy it again")
            file.seek(0)
            dataset = pydicom.dcmread(file, force=True)
            for tag in dataset.keys():
                # If the file ends within a value, pydicom drops the rest silently, such as the last contours.
                element = dataset.get_item(tag)
                if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
                    if len(element.value) < element.length != UNDEFINED_LENGTH:
                        raise EOFError
            _decode(dataset)  # pydicom decodes lazily: damage is to be found here, not later
        return dataset
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as DICOM ({type(error).__name__}): it is truncated or damaged, copy it "
            "again"
        ) from None


def _decode(dataset: Dataset, depth: int = 0) -> None:
    """Decodes every element.

    A sequence keeps its bytes beside those of its items, so each level costs the same memory again.
    """
    if depth > DEEPEST:
        raise RecursionError
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _decode(item, depth + 1)


def _modality(dataset: Dataset) -> str:
    return str(value_of(dataset, "Modality") or "").strip().upper()
