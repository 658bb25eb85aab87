"""What the slice views really show, rendered off-screen from the MRML nodes."""

from __future__ import annotations

import numpy as np
import pytest
from support.slicer.scene import SUV, oblique, pair, segmentationNode, volumeNode

AT = {"place": (0.0, 0.0, 0.0), "mmPerPixel": 0.5}


@pytest.fixture
def views(qtSlicer):
    """Slicer with slice views; the module that renders them."""
    from host import rendering, views

    views.openViews()
    yield rendering
    views.closeViews()


def alone(slicer, views, node) -> np.ndarray:
    """The red view with one volume only, in the display that it has now."""
    slicer.util.setSliceViewerLayers(background=node, foreground=None)
    return views.sliceImage("Red", (90, 80), **AT)


def test_the_fade_goes_from_the_original_to_the_denoised_volume(views, qtSlicer):
    from DRMCDenoiseLib.comparison import setFade, showComparison

    original, denoised = pair(qtSlicer)
    showComparison(original, denoised, "overlay", fade=0.3)
    mixed = views.sliceImage("Red", (90, 80), **AT)
    setFade(denoised, 0.0)
    atZero = views.sliceImage("Red", (90, 80), **AT)
    setFade(denoised, 1.0)
    atOne = views.sliceImage("Red", (90, 80), **AT)
    first, last = alone(qtSlicer, views, original), alone(qtSlicer, views, denoised)
    assert np.array_equal(atZero, first) and np.array_equal(atOne, last)
    assert np.abs(mixed - (0.7 * first + 0.3 * last)).max() <= 1.5  # whole gray levels
    assert np.abs(first.astype(int) - last).max() > 50  # what the fade is between differs


def test_the_window_is_in_suv_whatever_the_unit(views, qtSlicer):
    """Volumes in Bq/ml look like those in SUV: black at the window's upper end in inverted gray."""
    from DRMCDenoiseLib.comparison import endComparison, showComparison

    pictures = []
    for factor in (1.0, 2.5e-4):
        showComparison(*pair(qtSlicer, factor), "flicker", windowSUV=8.0)
        pictures.append(views.sliceImage("Red", (90, 80), **AT).astype(int))
        endComparison()
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    middle = pictures[0][40, 45]  # SUV 8 with noise in the hot sphere, which is the darkest
    assert middle.max() < 60 and np.ptp(middle) == 0


def test_the_residual_of_equal_volumes_is_neutral_and_of_others_blue_or_red(views, qtSlicer):
    from drmc.pages.windows import DEFAULT_WINDOW
    from DRMCDenoiseLib.comparison import showComparison
    from DRMCDenoiseLib.residual import residualOf

    original, denoised = pair(qtSlicer, 2.5e-4)
    array = qtSlicer.util.arrayFromVolume(denoised)
    array[:] = qtSlicer.util.arrayFromVolume(original)
    array[:, :, :5] += 1.0 / 2.5e-4  # at small x, the patient's left, by SUV 1
    array[:, :, 15:] -= 1.0 / 2.5e-4
    qtSlicer.util.arrayFromVolumeModified(denoised)
    showComparison(original, denoised, "residual")
    image = views.sliceImage("Red", (70, 60), **AT).astype(int)
    higher, neutral, lower = image[30, 65], image[30, 35], image[30, 4]  # R is on the reader's left
    assert np.ptp(neutral) == 0 and neutral[0] >= 245
    assert higher[0] > higher[2] + 40 and lower[2] > lower[0] + 40
    values = qtSlicer.util.arrayFromVolume(residualOf(denoised))
    assert values[10, 10, 2] == pytest.approx(1.0, rel=1e-4) and values[10, 10, 17] == pytest.approx(
        -1, rel=1e-4
    )
    display = residualOf(denoised).GetDisplayNode()
    # a third of the window of the scan
    assert display.GetWindowLevelMin() == -display.GetWindowLevelMax() == pytest.approx(-DEFAULT_WINDOW / 3)


def test_letters_and_outlines_are_where_they_belong(views, qtSlicer):
    """A lesion at the patient's left front lies on the right half and the upper half of the axial picture."""
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = -20.0
    array = np.zeros((20, 20, 20), np.float32)
    node = volumeNode(qtSlicer, array, matrix, units=SUV)
    mask = array > 0
    mask[8:13, 13:17, 3:6] = True  # x from -14 to -10: left; y from 6 to 12: front
    lesions = segmentationNode(qtSlicer, node, {"One": mask})
    qtSlicer.util.setSliceViewerLayers(background=node)
    at = {"place": (0.1, 0.1, 0.0), "mmPerPixel": 0.5}  # no pixel between two voxels
    views.sliceImage("Red", (80, 60), **at)
    found = np.argwhere(views.lesionMask("Red", lesions))
    assert len(found) == (4 * 4) * (3 * 4)  # voxels of 4 x 4 pixels
    rows, columns = found.mean(axis=0)
    assert rows < 30 and columns > 40
    plain = views.toImage(views.sliceImage("Red", (80, 60), **at))
    drawn = views.picture("Red", (80, 60), lesions=lesions, **at)
    left = [y for x in range(15) for y in range(60) if plain.pixel(x, y) != drawn.pixel(x, y)]
    assert left and 15 < np.mean(left) < 45  # the letter R at the left edge, half way up
    assert drawn.pixelColor(int(columns), int(found[:, 0].min())).getRgb()[:3] == views.OUTLINE


def test_an_oblique_scan_is_cut_where_the_view_is(views, qtSlicer):
    """The value under a pixel is the node's value at that pixel's place."""
    array = np.zeros((12, 24, 22), np.float32)
    array[6, 12, 11] = 100.0
    node = volumeNode(qtSlicer, array, oblique(), units=SUV)
    place = (oblique() @ [11, 12, 6, 1])[:3]
    qtSlicer.util.setSliceViewerLayers(background=node)
    for name in ("Red", "Yellow", "Green"):
        image = views.sliceImage(name, (41, 41), place=place, mmPerPixel=0.5)[..., 0].astype(int)
        assert np.abs(np.argwhere(image == image.max()).mean(axis=0) - 20).max() <= 1.5


def test_a_palette_keeps_the_picture(views):
    """Few colors are kept exactly; of many the picture keeps what can be seen."""
    gray = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert np.array_equal(views.toArray(views.withPalette(views.toImage(gray))), gray)
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    few = views.withPalette(views.toImage(noise), 200)
    assert len(few.colorTable()) == 200 and np.abs(views.toArray(few) - noise).mean() < 25
