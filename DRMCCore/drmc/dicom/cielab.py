"""Colors for display in DICOM: CIELab, white D65, each component in 16 bits (PS3.3 C.10.7.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# sRGB (IEC 61966-2-1), linear, to XYZ under D65.
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
_CUBE, _SLOPE = 216.0 / 24389.0, 24389.0 / 27.0  # CIE 15


def dicom_color(rgb: Sequence[float]) -> list[int]:
    """The three values of RecommendedDisplayCIELabValue (0062,000D).

    Args:
        rgb: red, green and blue in sRGB, 0 to 1.
    """
    stored = np.clip(np.asarray(rgb, dtype=float), 0.0, 1.0)
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    share = _TO_XYZ @ linear / _WHITE
    x, y, z = np.where(share > _CUBE, np.cbrt(share), (_SLOPE * share + 16.0) / 116.0)
    lightness, a, b = 116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)
    scaled = (lightness / 100.0, (a + 128.0) / 255.0, (b + 128.0) / 255.0)
    return [round(min(max(float(part), 0.0), 1.0) * 0xFFFF) for part in scaled]
