"""Encoders of compressed DICOM, and pydicom without optional decoders."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pydicom.pixels
import pytest
import SimpleITK as sitk
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
)


def by_simpleitk(folder: Path, compressor: str) -> Callable[[np.ndarray], bytes]:
    """An encoder of one unsigned slice that SimpleITK writes as DICOM; of few voxels it makes no stream."""

    def encode(values: np.ndarray) -> bytes:
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(folder / "encoded.dcm"))
        writer.SetImageIO("GDCMImageIO")
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.Execute(sitk.GetImageFromArray(values))
        data = pydicom.dcmread(folder / "encoded.dcm").PixelData
        return next(pydicom.encaps.generate_frames(data, number_of_frames=1))

    return encode


def jpeg_2000(values: np.ndarray) -> bytes:
    """A lossless JPEG 2000 code stream of one unsigned slice."""
    image = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    image.fromarray(np.ascontiguousarray(values)).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
    return stream.getvalue()


def without_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where nothing but the declared dependencies is installed: pydicom decodes RLE alone."""
    decoders = {
        id(decoder): decoder
        for decoder in map(pydicom.pixels.get_decoder, (JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless))
    }
    for decoder in decoders.values():
        monkeypatch.setattr(type(decoder), "is_available", False)
