"""Original and denoised PET in the views, in several ways; also for scripts.

    from DRMCDenoiseLib.comparison import endComparison, showComparison

    showComparison(original, denoised, "residual")
    ...
    endComparison()

Without main window there is no layout to choose: the slice views that the scene has are set.
"""

from __future__ import annotations

import slicer
from drmc.errors import InputError
from drmc.pages.windows import DEFAULT_WINDOW
from DRMCCoreLib.nodes.suvdisplay import GRAY, HEAT, INVERTED_GRAY, showWindow
from DRMCCoreLib.nodes.suvunits import suvPerUnit

from DRMCDenoiseLib import comparelayout, reading, viewstate
from DRMCDenoiseLib.projections import projectionsOf
from DRMCDenoiseLib.residual import removeResiduals, residualOf, showResidualWindow, updateResidual

OFF, OVERLAY, SIDE_BY_SIDE, FLICKER, RESIDUAL, READING = MODES = (
    "off",
    "overlay",
    "sideBySide",
    "flicker",
    "residual",
    "reading",
)
_RESIDUAL_SHARE = 1 / 3  # of the window, on either side of 0


def showComparison(
    inputVolume,
    outputVolume,
    mode: str = OVERLAY,
    *,
    fade: float = 0.5,
    windowSUV: float = DEFAULT_WINDOW,
    ctVolume=None,
    isHeat: bool = False,
) -> list:
    """Shows the original and the denoised volume in the slice views, until `endComparison`.

    Args:
        inputVolume: The original.
        outputVolume: The denoised volume.
        mode: "overlay" (original in gray, denoised in PET-Heat over it), "sideBySide" (original above,
            denoised below, linked), "flicker" (the original; `setFade(outputVolume, 1)` shows the denoised
            volume; both in inverted gray), "residual" (denoised minus original in SUV, white at 0), "reading"
            (MIP, axial and coronal slices in a layout of their own), "off" (as `endComparison`).
        fade: Opacity of the denoised volume in the overlay, 0 to 1.
        windowSUV: SUV at the upper end of the window of both volumes, whose lower end is 0; the residual is
            shown to a third of it on either side of 0. A volume without SUV factor gets the window of the
            original.
        ctVolume: Reading: the CT under the slices.
        isHeat: Reading: PET-Heat in place of inverted gray.

    Returns:
        What makes the projections of the reading (`reading.Rotation` takes it); empty in other modes.

    Raises:
        InputError: The mode is unknown, or the volumes have no common grid; the views are then as they were.
    """
    if mode not in MODES:
        raise InputError(f"mode {mode!r} is unknown: give one of {', '.join(MODES)}")
    endComparison()
    if mode == OFF:
        return []
    for node in (inputVolume, outputVolume):
        if node.GetImageData() is None:
            raise InputError(f"'{node.GetName()}' holds no image: there is nothing to compare")
    residual = updateResidual(inputVolume, outputVolume) if mode == RESIDUAL else None
    viewstate.keepViews()
    for node in (inputVolume, outputVolume, *([] if ctVolume is None else [ctVolume])):
        viewstate.keepDisplay(node)
    if mode == READING:
        viewstate.outlineSegmentations()
        makers = reading.showReading(inputVolume, outputVolume, ctVolume=ctVolume, isHeat=isHeat)
        setWindow(inputVolume, outputVolume, windowSUV)
        return makers
    setWindow(inputVolume, outputVolume, windowSUV)
    # Heat over inverted gray would cancel: where one is white the other is black. Both of a mixture go from
    # black up.
    colors = (GRAY, HEAT) if mode == OVERLAY else (INVERTED_GRAY, INVERTED_GRAY)
    for node, color in zip((inputVolume, outputVolume), colors, strict=True):
        node.GetDisplayNode().SetAndObserveColorNodeID(color)
    if mode == SIDE_BY_SIDE:
        comparelayout.showLayout()
    for node, isDenoisedSide in comparelayout.sides():
        background = inputVolume if residual is None else residual
        if mode == SIDE_BY_SIDE and isDenoisedSide:
            background = outputVolume
        foreground = outputVolume if mode in (OVERLAY, FLICKER) else None
        with slicer.util.NodeModify(node):
            node.SetBackgroundVolumeID(background.GetID())
            node.SetForegroundVolumeID(None if foreground is None else foreground.GetID())
    setFade(outputVolume, fade if mode == OVERLAY else 0.0)
    return []


def endComparison() -> None:
    """Puts views and displays back as they were before the comparison, and removes the residual."""
    viewstate.restoreViews()
    viewstate.restoreDisplays()
    viewstate.restoreSegmentations()
    reading.endReading()
    removeResiduals()


def setFade(outputVolume, fade: float) -> None:
    """Opacity, 0 to 1, of the denoised volume wherever it lies over another."""
    for node in viewstate.compositeNodes():
        if node.GetForegroundVolumeID() == outputVolume.GetID():
            node.SetForegroundOpacity(fade)


def setWindow(inputVolume, outputVolume, windowSUV: float) -> None:
    """Sets the window of both volumes, 0 to `windowSUV`, and the residual's: a third of it, about 0."""
    factor = suvPerUnit(outputVolume)
    if factor is None:
        inputVolume.CreateDefaultDisplayNodes()
        display = inputVolume.GetScalarVolumeDisplayNode()
        low, high = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    else:
        low, high = 0.0, windowSUV / factor
    for node in (inputVolume, outputVolume):
        showWindow(node, low, high)
        if (projections := projectionsOf(node)) is not None:
            showWindow(projections, low, high)
    if (residual := residualOf(outputVolume)) is not None:
        showResidualWindow(residual, residualTop(windowSUV) if factor is not None else high * _RESIDUAL_SHARE)


def exchange(inputVolume, outputVolume, isExchanged: bool) -> None:
    """Side by side: shows in each view the volume of the other side, or its own again."""
    volumes = (outputVolume, inputVolume) if isExchanged else (inputVolume, outputVolume)
    for node, isDenoisedSide in comparelayout.sides():
        node.SetBackgroundVolumeID(volumes[isDenoisedSide].GetID())


def layers() -> dict[str, tuple[str | None, str | None]]:
    """IDs of the background and foreground volume of every slice view, by the ID of its composite node."""
    return {
        node.GetID(): (node.GetBackgroundVolumeID(), node.GetForegroundVolumeID())
        for node in viewstate.compositeNodes()
    }


def putBack(wanted: dict[str, tuple[str | None, str | None]]) -> None:
    """Shows again what `layers` has found, in views that show something else by now."""
    now = layers()
    for identifier, (background, foreground) in wanted.items():
        node = slicer.mrmlScene.GetNodeByID(identifier)
        if node is not None and now.get(identifier) != (background, foreground):
            with slicer.util.NodeModify(node):
                node.SetBackgroundVolumeID(background)
                node.SetForegroundVolumeID(foreground)


def residualTop(windowSUV: float) -> float:
    """SUV at either end of the residual's window."""
    return windowSUV * _RESIDUAL_SHARE


def refreshResidual(inputVolume, outputVolume) -> None:
    """Computes the residual again, if it is shown; for when a volume has changed."""
    if residualOf(outputVolume) is not None:
        updateResidual(inputVolume, outputVolume)
