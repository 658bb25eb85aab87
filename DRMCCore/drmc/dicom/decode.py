"""Compressed pixel data: stored integers of each frame, by the decoders of pydicom or SimpleITK (GDCM).

pydicom itself decodes RLE; JPEG Lossless, JPEG-LS and JPEG 2000 need plugins that nobody has to have.
SimpleITK, which is always there, decodes them all. It would also rescale what it reads, so it is given the
code streams alone, as a secondary capture without slope, intercept or anything of the patient.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom.pixels
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, generate_uid

from drmc.dicom.header import number_of, value_of
from drmc.errors import InputError
from drmc.files import is_full_disk
from drmc.paths import AnyPath

# Transfer syntaxes that GDCM decodes (DICOM PS3.5 A.4), and those of them that always lose something.
_BY_GDCM = {
    f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91)
}  # JPEG, JPEG Lossless, JPEG-LS, JPEG 2000
ALWAYS_LOSSY = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51)}
_CAPTURE_CLASSES = {8: "1.2.840.10008.5.1.4.1.1.7.2", 16: "1.2.840.10008.5.1.4.1.1.7.3"}  # multi-frame
FRAMES_AT_ONCE = 16
_END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike


def decompressed(path: AnyPath, ds: Dataset, syntax: str, shape: tuple[int, int, int]) -> np.ndarray:
    """Stored integers (frames, rows, columns) of compressed pixel data.

    `ds` holds the elements of the Image Pixel module and PixelData (7FE0,0010), `syntax` is its
    TransferSyntaxUID (0002,0010). Raises InputError where no decoder is there, and where the data are
    truncated or of another shape.
    """
    name = UID(syntax).name
    tried = []
    for decodes, decode in ((_pydicom_decodes, _by_pydicom), (_gdcm_decodes, _by_gdcm)):
        if not decodes(syntax):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = decode(ds, syntax, shape)
        except MemoryError:
            raise
        except Exception as error:
            if is_full_disk(error):
                raise
            tried.append(type(error).__name__)
            continue
        if values.size != np.prod(shape) or values.shape[-2:] != shape[1:]:
            raise InputError(
                f"{path} is damaged: {name} decodes to {values.shape}, not {shape}; copy the series again"
            )
        return values.reshape(shape)
    if not tried:
        raise InputError(
            f"{path}: no decoder is installed for pixel data compressed as {name}: decompress the series "
            "(gdcmconv --raw), or install pylibjpeg and its plugins"
        )
    raise InputError(
        f"{path}: pixel data compressed as {name} cannot be decoded ({', '.join(tried)}): it is truncated or "
        "damaged; copy the series again, or decompress it first (gdcmconv --raw)"
    )


def decompressed_frames(
    path: AnyPath, ds: Dataset, syntax: str, shape: tuple[int, int, int]
) -> Iterator[np.ndarray]:
    """As `decompressed`, frame by frame (rows, columns), so that few are in memory at a time."""
    try:
        frames = list(generate_frames(ds.PixelData, number_of_frames=shape[0]))
    except Exception as error:
        raise InputError(
            f"{path}: its frames (PixelData (7FE0,0010)) cannot be told apart ({type(error).__name__}): it "
            "is truncated or damaged; copy it again"
        ) from None
    part = Dataset()
    part.update({key: ds[key] for key in ds.keys() if key >> 16 == 0x28})
    part.file_meta = ds.file_meta
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        several = frames[start : start + FRAMES_AT_ONCE]
        part.NumberOfFrames = len(several)
        part.PixelData = encapsulate(several)
        part["PixelData"].VR = "OB"
        yield from decompressed(path, part, syntax, (len(several), *shape[1:]))


def _pydicom_decodes(syntax: str) -> bool:
    try:
        return pydicom.pixels.get_decoder(UID(syntax)).is_available
    except NotImplementedError:
        return False


def _gdcm_decodes(syntax: str) -> bool:
    return syntax in _BY_GDCM


def _by_pydicom(ds: Dataset, syntax: str, shape: tuple[int, int, int]) -> np.ndarray:
    return ds.pixel_array


def _by_gdcm(ds: Dataset, syntax: str, shape: tuple[int, int, int]) -> np.ndarray:
    frames = list(generate_frames(ds.PixelData, number_of_frames=shape[0]))
    # GDCM makes up what a truncated code stream lacks.
    if not all(frame.rstrip(b"\0").endswith(_END_OF_IMAGE) for frame in frames):
        raise EOFError("a code stream does not end")
    capture = Dataset()
    capture.file_meta = FileMetaDataset()
    capture.file_meta.TransferSyntaxUID = UID(syntax)
    bits = int(number_of(value_of(ds, "BitsAllocated")) or 0)
    capture.SOPClassUID = capture.file_meta.MediaStorageSOPClassUID = UID(_CAPTURE_CLASSES[bits])
    capture.SOPInstanceUID = capture.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    capture.Modality = "OT"
    capture.SamplesPerPixel, capture.PhotometricInterpretation = 1, "MONOCHROME2"
    capture.NumberOfFrames, capture.Rows, capture.Columns = shape
    capture.BitsAllocated = bits
    for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
        setattr(capture, keyword, int(number_of(value_of(ds, keyword)) or 0))
    capture.PixelData = encapsulate(frames)
    capture["PixelData"].VR = "OB"
    with tempfile.TemporaryDirectory(prefix="drmc-") as folder:
        file = str(Path(folder) / "frames.dcm")
        capture.save_as(file, enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetFileName(file)
        reader.SetImageIO("GDCMImageIO")
        warned = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            values = sitk.GetArrayFromImage(reader.Execute())
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(warned)
    kind = np.dtype(f"{'i' if capture.PixelRepresentation else 'u'}{bits // 8}")
    if not np.issubdtype(values.dtype, np.integer):
        raise TypeError(f"decoded to {values.dtype}")
    return values.astype(kind, copy=False)
