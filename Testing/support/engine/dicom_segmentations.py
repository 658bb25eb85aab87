"""DICOM segmentation objects and structure sets, as other programs write them."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
from drmc.dicom.series import read_pet_series
from drmc.imaging.geometry import Geometry
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from support.engine.synthetic_dicom import SECRETS, write_series

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
STRUCTURE_SET_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
FRAME = "1.2.3.4"


def grid(shape_zyx, spacing_xyz=(2.0, 2.0, 2.0), origin=(0.0, 0.0, 0.0), direction=IDENTITY) -> Geometry:
    return Geometry(tuple(shape_zyx), tuple(spacing_xyz), tuple(origin), tuple(direction))


def rotation(seed: int) -> np.ndarray:
    """A random rotation."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


ORIENTATIONS = {
    "axial": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "prone": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "upside down": (1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "coronal": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    "oblique": tuple(np.round(rotation(1)[:, :2].T.ravel(), 9)),
    "another oblique": tuple(np.round(rotation(5)[:, :2].T.ravel(), 9)),
}


def make_scan(
    folder: Path, orientation=ORIENTATIONS["axial"], rows: int = 7, columns: int = 9
) -> tuple[list[Dataset], Geometry]:
    files = write_series(
        folder, slices=6, rows=rows, columns=columns, orientation=orientation, FrameOfReferenceUID=FRAME
    )
    sources = [pydicom.dcmread(file) for file in files]
    for one in sources:
        for keyword in ("StudyID", "StudyDate", "StudyTime", "PatientSex", "ReferringPhysicianName"):
            setattr(one, keyword, "")
    return sources, read_pet_series(folder).geometry


def segmentation(sources: list[Dataset], masks: np.ndarray, kind: str = "BINARY", **options) -> Dataset:
    """`masks` (segment, z, y, x), or with LABELMAP labels (z, y, x), as highdicom writes them.

    The segments are called lesion 1, 2, ...
    """
    count = int(masks.max()) if kind == "LABELMAP" else len(masks)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="test", version="1", family=codes.cid7162.ArtificialIntelligence
    )
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"lesion {number}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number in range(1, count + 1)
    ]
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=masks if masks.ndim == 3 else np.moveaxis(masks, 0, -1),
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        **options,
    )


def structure_set(
    path: Path, regions: dict[str, list], kind: str | list[str] = "CLOSED_PLANAR", frame: str = FRAME
) -> Path:
    """An RT Structure Set; `regions`: by name the contours, each (points, 3) in mm, LPS."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = STRUCTURE_SET_CLASS
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID = SECRETS[:2]
    ds.Modality = "RTSTRUCT"
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, (name, drawn) in enumerate(regions.items(), start=1):
        region, item = Dataset(), Dataset()
        region.ROINumber, region.ROIName, region.ReferencedFrameOfReferenceUID = number, name, frame
        item.ReferencedROINumber, item.ContourSequence = number, []
        for index, points in enumerate(drawn):
            contour = Dataset()
            contour.ContourGeometricType = kind if isinstance(kind, str) else kind[index]
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.6f}"[:16] for value in np.ravel(points)]
            item.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(region)
        ds.ROIContourSequence.append(item)
    ds.save_as(path, enforce_file_format=True)
    return path


def in_space(geometry: Geometry, index: np.ndarray) -> np.ndarray:
    """Voxel indices (points, 3) as (x, y, z) in mm."""
    matrix = np.reshape(geometry.direction, (3, 3)) * np.asarray(geometry.spacing)
    return np.asarray(geometry.origin) + np.asarray(index, dtype=float) @ matrix.T


def rectangle(x: tuple[float, float], y: tuple[float, float], z: float) -> np.ndarray:
    return np.array([(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)])


def box(shape, z: tuple[int, int], y: tuple[int, int], x: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[z[0] : z[1], y[0] : y[1], x[0] : x[1]] = True
    return mask
