"""The two transforms of a NIfTI header, sform and qform, which must not place the image differently.

Both map a voxel index (x, y, z) to mm in RAS (https://nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields).
Programs differ in which of the two they use if both are set.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from drmc.errors import InputError
from drmc.paths import AnyPath

TRANSFORM_TOLERANCE = 0.1  # voxels: sform and qform may place any voxel this far apart
# Offset and type of dim, pixdim, the codes of qform and sform, the quaternion with its offset, and the sform,
# by the header's size: NIfTI-1 and NIfTI-2.
_FIELDS = {
    348: {
        "dim": (40, "8h"),
        "pixdim": (76, "8f"),
        "codes": (252, "2h"),
        "qform": (256, "6f"),
        "sform": (280, "12f"),
    },
    540: {
        "dim": (16, "8q"),
        "pixdim": (104, "8d"),
        "codes": (344, "2i"),
        "qform": (352, "6d"),
        "sform": (400, "12d"),
    },
}


def check_transforms(path: AnyPath, header: bytes, order: str) -> None:
    """Refuses a file whose sform and qform place a voxel more than TRANSFORM_TOLERANCE apart.

    Args:
        path: the file, for the message.
        header: its first 540 bytes.
        order: its byte order, "<" or ">".

    Raises:
        InputError: both transforms are set and differ.
    """
    size = struct.unpack_from(f"{order}i", header)[0]
    values = {
        name: struct.unpack_from(order + form, header, start) for name, (start, form) in _FIELDS[size].items()
    }
    q_code, s_code = values["codes"]
    if q_code <= 0 or s_code <= 0:
        return
    sform = np.vstack([np.reshape(values["sform"], (3, 4)), [0, 0, 0, 1]])
    qform = _qform(values["pixdim"], values["qform"])
    if not np.isfinite([sform, qform]).all() or abs(np.linalg.det(qform)) == 0:
        return  # the reader refuses it
    last = [max(n, 1) - 1 for n in values["dim"][1:4]]
    corners = np.array([[i * last[0], j * last[1], k * last[2], 1] for i, j, k in np.ndindex(2, 2, 2)]).T
    apart = (sform - qform) @ corners
    voxels = np.abs(np.linalg.inv(qform) @ apart).max()
    if voxels > TRANSFORM_TOLERANCE:
        distance = np.linalg.norm(apart, axis=0).max()
        raise InputError(
            f"{path}: its sform (code {s_code}, {_shown(sform)}) and its qform (code {q_code}, "
            f"{_shown(qform)}) place voxels up to {distance:.4g} mm ({voxels:.3g} voxels) apart, so its "
            "position is not known: set one to the other (nibabel: image.set_qform(image.get_sform()) or the "
            "reverse) and save it again"
        )


def _qform(pixdim: tuple[float, ...], values: tuple[float, ...]) -> np.ndarray:
    """The affine (4, 4) of the quaternion (b, c, d), the offsets and pixdim."""
    b, c, d = values[:3]
    rest = 1.0 - (b * b + c * c + d * d)
    if rest < 1e-7:
        scale = 1.0 / math.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b * scale, c * scale, d * scale
    else:
        a = math.sqrt(rest)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * (pixdim[1], pixdim[2], pixdim[3] * (-1.0 if pixdim[0] < 0 else 1.0))
    affine[:3, 3] = values[3:]
    return affine


def _shown(affine: np.ndarray) -> str:
    """An affine as text, [row; row; row]."""
    return "[" + "; ".join(" ".join(f"{v + 0.0:.5g}" for v in row) for row in affine[:3]) + "]"
