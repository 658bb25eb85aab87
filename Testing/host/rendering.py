"""Pictures of slice views without a screen: Slicer's own slice logic blends the layers on the CPU.

`sliceImage` gives the blended pixels of a slice view's MRML nodes as they are; `picture` adds letters and the
outlines of lesions, `grid` puts pictures beside each other. No X server, no OpenGL.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from drmc.pages.views import outline
from PySide6 import QtCore, QtGui
from vtk.util.numpy_support import vtk_to_numpy

OUTLINE = (0, 150, 60)
# What lies at the left, right, top and bottom edge, by the name of a slice view's orientation.
LETTERS = {"Axial": "RLAP", "Sagittal": "APSI", "Coronal": "RLSI"}
FONT_PIXELS = 13


def sliceImage(name: str, size: tuple[int, int] = (256, 256), place=None, mmPerPixel: float | None = None):
    """The pixels (rows, columns, 3), uint8, of the slice view `name` with `size` (columns, rows).

    `place`: RAS point through which the slice is laid and on which it is centered; where it is None the view
    stays where it is. Air around the volume is black, as in Slicer.
    """
    logic = slicer.app.layoutManager().sliceWidget(name).sliceLogic()
    node = logic.GetSliceNode()
    columns, rows = size
    node.SetDimensions(columns, rows, 1)
    if mmPerPixel is not None:
        node.SetFieldOfView(columns * mmPerPixel, rows * mmPerPixel, 1.0)
    if place is not None:
        for row, value in enumerate(place):
            node.GetSliceToRAS().SetElement(row, 3, float(value))
    node.UpdateMatrices()
    return blended(logic)


def blended(logic) -> np.ndarray:
    """What a slice logic shows now, (rows, columns, 3), uint8."""
    columns, rows, _depth = logic.GetSliceNode().GetDimensions()
    logic.UpdatePipeline()
    connection = logic.GetImageDataConnection()
    if connection is None:
        return np.zeros((rows, columns, 3), np.uint8)
    connection.GetProducer().Update()
    image = connection.GetProducer().GetOutputDataObject(connection.GetIndex())
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1]
    opacity = pixels[..., 3:4].astype(np.uint16) if pixels.shape[2] == 4 else 255
    return (pixels[..., :3].astype(np.uint16) * opacity // 255).astype(np.uint8)


def lesionMask(name: str, segmentationNode) -> np.ndarray:
    """Where any visible segment lies in the slice view `name` as it is, (rows, columns), bool."""
    node = slicer.app.layoutManager().sliceWidget(name).sliceLogic().GetSliceNode()
    columns, rows, _depth = node.GetDimensions()
    toRAS = slicer.util.arrayFromVTKMatrix(node.GetXYToRAS())
    y, x = np.indices((rows, columns))
    ras = toRAS @ np.stack([x.ravel(), y.ravel(), np.zeros(x.size), np.ones(x.size)])
    mask = np.zeros(x.size, bool)
    for segment in segmentationNode.GetSegmentation().GetSegmentIDs():
        labels = slicer.vtkOrientedImageData()
        segmentationNode.GetBinaryLabelmapRepresentation(segment, labels)
        if labels.IsEmpty():
            continue
        matrix = vtk.vtkMatrix4x4()
        labels.GetWorldToImageMatrix(matrix)
        extent = np.reshape(labels.GetExtent(), (3, 2))
        ijk = np.round(slicer.util.arrayFromVTKMatrix(matrix) @ ras)[:3].astype(int) - extent[:, :1]
        shape = extent[:, 1] - extent[:, 0] + 1
        inside = ((ijk >= 0) & (ijk < shape[:, None])).all(axis=0)
        array = vtk_to_numpy(labels.GetPointData().GetScalars()).reshape(shape[::-1])
        found = np.zeros(x.size, bool)
        found[inside] = array[tuple(ijk[::-1, inside])] > 0
        mask |= found
    return mask.reshape(rows, columns)[::-1]


def picture(name: str, size: tuple[int, int] = (256, 256), *, lesions=None, title: str = "", **place):
    """`sliceImage` as a QImage with orientation letters, lesion outlines and a title."""
    pixels = sliceImage(name, size, **place).copy()
    if lesions is not None:
        pixels[outline(lesionMask(name, lesions))] = OUTLINE
    image = toImage(pixels)
    orientation = slicer.app.layoutManager().sliceWidget(name).sliceLogic().GetSliceNode().GetOrientation()
    painter = QtGui.QPainter(image)
    font = painter.font()
    font.setPixelSize(FONT_PIXELS)
    painter.setFont(font)
    inside = QtCore.QRect(4, 2, size[0] - 8, size[1] - 4)
    sides = (
        QtCore.Qt.AlignmentFlag.AlignLeft | QtCore.Qt.AlignmentFlag.AlignVCenter,
        QtCore.Qt.AlignmentFlag.AlignRight | QtCore.Qt.AlignmentFlag.AlignVCenter,
        QtCore.Qt.AlignmentFlag.AlignHCenter | QtCore.Qt.AlignmentFlag.AlignTop,
        QtCore.Qt.AlignmentFlag.AlignHCenter | QtCore.Qt.AlignmentFlag.AlignBottom,
    )
    texts = [*zip(LETTERS[orientation], sides, strict=True)]
    texts.append((title, QtCore.Qt.AlignmentFlag.AlignLeft | QtCore.Qt.AlignmentFlag.AlignTop))
    for text, side in texts:  # white with a black rim can be read on any gray
        painter.setPen(QtGui.QColor("black"))
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1), (-1, 1), (1, -1)):
            painter.drawText(inside.translated(dx, dy), side, text)
        painter.setPen(QtGui.QColor("white"))
        painter.drawText(inside, side, text)
    painter.end()
    return image


def toImage(pixels: np.ndarray) -> QtGui.QImage:
    """Pixels (rows, columns, 3), uint8, as a QImage of its own."""
    pixels = np.ascontiguousarray(pixels)
    rows, columns, _channels = pixels.shape
    return QtGui.QImage(pixels.data, columns, rows, 3 * columns, QtGui.QImage.Format.Format_RGB888).copy()


def grid(rows: list[list[QtGui.QImage]], gap: int = 4, background: str = "#303030") -> QtGui.QImage:
    """Pictures in rows; a row's pictures have one height."""
    widths = [sum(one.width() for one in row) + gap * (len(row) - 1) for row in rows]
    heights = [max(one.height() for one in row) for row in rows]
    whole = QtGui.QImage(max(widths), sum(heights) + gap * (len(rows) - 1), QtGui.QImage.Format.Format_RGB888)
    whole.fill(QtGui.QColor(background))
    painter = QtGui.QPainter(whole)
    y = 0
    for row, height in zip(rows, heights, strict=True):
        x = 0
        for one in row:
            painter.drawImage(x, y, one)
            x += one.width() + gap
        y += height + gap
    painter.end()
    return whole


def withPalette(image: QtGui.QImage, colors: int = 256) -> QtGui.QImage:
    """The picture in at most that many colors (median cut), not dithered."""
    pixels = toArray(image)
    packed = pixels[..., 0] * 65536 + pixels[..., 1] * 256 + pixels[..., 2]
    found, index, counts = np.unique(packed, return_inverse=True, return_counts=True)
    split = np.stack([found // 65536, found // 256 % 256, found % 256], axis=1)
    boxes = [np.arange(len(found))]
    while len(boxes) < min(colors, len(found)):
        widths = [np.ptp(split[box], axis=0).max() for box in boxes]
        weights = [width * np.sqrt(counts[box].sum()) for box, width in zip(boxes, widths, strict=True)]
        box = boxes.pop(int(np.argmax(weights)))
        box = box[np.argsort(split[box, np.ptp(split[box], axis=0).argmax()], kind="stable")]
        share = np.cumsum(counts[box]) / counts[box].sum()
        cut = int(np.clip(np.searchsorted(share, 0.5), 1, len(box) - 1))
        boxes += [box[:cut], box[cut:]]
    entry = np.zeros(len(found), np.uint8)
    table = []
    for number, box in enumerate(boxes):
        entry[box] = number
        table.append(np.average(split[box], axis=0, weights=counts[box]).round().astype(int).tolist())
    indexed = entry[index.reshape(packed.shape)]
    rows, columns = indexed.shape
    made = QtGui.QImage(indexed.tobytes(), columns, rows, columns, QtGui.QImage.Format.Format_Indexed8).copy()
    made.setColorTable([QtGui.qRgb(*one) for one in table])
    return made


def toArray(image: QtGui.QImage) -> np.ndarray:
    """The pixels of a picture, (rows, columns, 3), int."""
    plain = image.convertToFormat(QtGui.QImage.Format.Format_RGB888)
    lines = np.frombuffer(plain.constBits(), np.uint8).reshape(plain.height(), plain.bytesPerLine())
    return lines[:, : 3 * plain.width()].reshape(plain.height(), plain.width(), 3).astype(int)
