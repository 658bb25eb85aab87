"""Display colors of DICOM, against those of highdicom."""

from __future__ import annotations

import itertools

import pytest
from drmc.dicom.cielab import dicom_color
from drmc.organs.table import classes

highdicom = pytest.importorskip("highdicom")


def test_colors_are_those_of_another_program_and_come_back():
    corners = list(itertools.product((0, 128, 255), repeat=3))
    for color in [*corners, *(one.color for one in classes())]:
        found = dicom_color([part / 255 for part in color])
        expected = highdicom.color.CIELabColor.from_rgb(*color)
        assert found == pytest.approx(list(expected.value), abs=25)  # its matrix has fewer digits
        back = highdicom.color.CIELabColor.from_dicom_value(found).to_rgb()
        assert list(back) == pytest.approx(list(color), abs=1)


def test_colors_beyond_the_range_are_those_at_its_end():
    assert dicom_color((-1.0, 2.0, 0.5)) == dicom_color((0.0, 1.0, 0.5))
