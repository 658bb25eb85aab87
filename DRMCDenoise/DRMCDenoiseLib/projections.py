"""Maximum intensity projections from all sides, as a volume that slice views turn through.

One projection is a slice of that volume; its third axis is the angle, one millimeter a degree. Volume
rendering would take seconds for each frame without a graphics card, this takes one small slice.

What it costs is bounded, however large the scan is: the scan is reduced to at most `MOST_VOXELS` by the
maxima of blocks, so that no hot voxel is lost, and `ProjectionMaker.make` computes one angle at a time.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import slicer
from DRMCCoreLib.nodes.names import INTENDED_USE
from slicer.i18n import tr as _

REFERENCE = "DRMC.Projections"  # from a volume to its projections
MOST_VOXELS = 3_000_000
ANGLES, STEP_DEGREES = 36, 10
FIRST_MM = -10_000.0  # place of the first angle: far from any segment, whose outline would be drawn there
_MARK = "DRMC.IsProjections"


@dataclass
class Body:
    """Where the body is in a scan.

    In the order S, A, R, of the reduced scan: `spacing` in mm, `origin` (the center of the first voxel in the
    scan's own RAS), and `low` and `high`, the box of the body in voxels, `high` excluded. `inside`: a point
    inside the body (world, RAS). `worldBounds`: as `bounds`, of the box where a transform has put it.
    """

    spacing: np.ndarray
    origin: np.ndarray
    low: np.ndarray
    high: np.ndarray
    inside: tuple[float, float, float]
    worldBounds: np.ndarray

    def bounds(self) -> np.ndarray:
        """The box of the body in the scan's own frame (axis, low and high), mm, axes in the order R, A, S."""
        return _bounds(self.spacing, self.origin, self.low, self.high)


def findBody(volumeNode, suvPerUnit: float | None) -> Body:
    """Finds the body of a scan; the whole scan where nothing is found."""
    from drmc.imaging.body import body_mask, body_mask_of_any_scale  # SimpleITK is not needed before

    standing = _Standing(volumeNode)
    array, spacing = standing.array, standing.spacing
    if suvPerUnit is None:
        mask = body_mask_of_any_scale(array, spacing)
    else:
        mask = body_mask(array * np.float32(suvPerUnit), spacing)
    if not mask.any():
        mask = np.ones_like(array, dtype=bool)
    low, high = np.empty(3, int), np.empty(3, int)
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        low[axis], high[axis] = found[0], found[-1] + 1
    places = np.argwhere(mask)
    nearest = places[np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1))]
    corners = itertools.product(*_bounds(spacing, standing.origin, low, high))
    places = np.array([_toWorld(volumeNode, corner) for corner in corners])
    worldBounds = np.stack([places.min(axis=0), places.max(axis=0)], axis=1)
    inside = _toWorld(volumeNode, standing.point(nearest))
    return Body(spacing, standing.origin, low, high, inside, worldBounds)


def _bounds(spacing: np.ndarray, origin: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.stack([origin + (edge - 0.5) * spacing for edge in (low, high)], axis=1)[::-1]


def _toWorld(volumeNode, point) -> tuple[float, float, float]:
    world = [0.0, 0.0, 0.0]
    volumeNode.TransformPointToWorld([float(one) for one in point], world)
    return tuple(world)


class ProjectionMaker:
    """Makes the projections of one volume, an angle at a time, into a node of its own that is not saved."""

    def __init__(self, volumeNode, body: Body):
        self._volumeNode, self._body = volumeNode, body
        depth, height, width = (body.high - body.low).tolist()
        _zStep, yStep, xStep = body.spacing
        self._step = float(min(yStep, xStep))
        self._columns = int(np.ceil(np.hypot(height * yStep, width * xStep) / self._step))
        self._values = self._read()
        self._shape, self._steps = (height, width), (yStep, xStep)
        self.node = _node(volumeNode)
        self._isMade = [False] * ANGLES
        middle = body.bounds().mean(axis=1)
        matrix = np.eye(4)
        matrix[:3, :3] = [[self._step, 0, 0], [0, 0, -STEP_DEGREES], [0, body.spacing[0], 0]]
        left = middle[0] - (self._columns - 1) / 2 * self._step
        matrix[:3, 3] = left, FIRST_MM, body.bounds()[2, 0] + body.spacing[0] / 2
        self.node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
        first = np.broadcast_to(self._project(0), (ANGLES, depth, self._columns))
        slicer.util.updateVolumeFromArray(self.node, np.ascontiguousarray(first))
        self._isMade[0] = True

    def make(self, number: int) -> None:
        """Computes the projection of an angle unless it is there already."""
        if self._isMade[number] or self.node.GetImageData() is None:
            return
        slicer.util.arrayFromVolume(self.node)[number] = self._project(number)
        slicer.util.arrayFromVolumeModified(self.node)
        self._isMade[number] = True

    def refresh(self, number: int) -> None:
        """Takes the voxels that the volume has now; the projection of an angle is there at once."""
        self._values = self._read()
        self._isMade = [False] * ANGLES
        self.make(number)

    def _read(self) -> np.ndarray:
        """The body's box (place, z); the last place stands for everything outside of it."""
        array = _Standing(self._volumeNode).array[tuple(map(slice, self._body.low, self._body.high))]
        depth = len(array)
        return np.concatenate([array.reshape(depth, -1).T, np.full((1, depth), array.min(), array.dtype)])

    def _project(self, number: int) -> np.ndarray:
        """The maxima along the line of sight (z, column) of the body that has turned by an angle."""
        angle = np.deg2rad(number * STEP_DEGREES)
        place = (np.arange(self._columns) - (self._columns - 1) / 2) * self._step
        along, across = place[:, None], place[None, :]
        (height, width), (yStep, xStep) = self._shape, self._steps
        x = np.rint((across * np.cos(angle) - along * np.sin(angle)) / xStep + (width - 1) / 2).astype(int)
        y = np.rint((across * np.sin(angle) + along * np.cos(angle)) / yStep + (height - 1) / 2).astype(int)
        isInside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        index = np.where(isInside, y * width + x, height * width)
        found = self._values[index[0]]
        for line in index[1:]:
            np.maximum(found, self._values[line], out=found)
        return found.T


def projectionsOf(volumeNode):
    """The node with a volume's projections, or None."""
    return volumeNode.GetNodeReference(REFERENCE)


def removeProjections() -> None:
    """Removes every node with projections from the scene, with its display."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if node.GetAttribute(_MARK):
            display = node.GetDisplayNode()
            slicer.mrmlScene.RemoveNode(node)
            if display is not None:
                slicer.mrmlScene.RemoveNode(display)


def isProjections(volumeNode) -> bool:
    """Whether a volume holds projections."""
    return bool(volumeNode.GetAttribute(_MARK))


class _Standing:
    """A scan with its array's axes along S, A and R as far as its own allow, reduced.

    `array` (S, A, R), float32; `spacing` in mm and `origin`, the center of the first voxel, in that order.
    """

    def __init__(self, volumeNode):
        from DRMCCoreLib.nodes.geometry import nodeMatrix  # SimpleITK is not needed before

        array = slicer.util.arrayFromVolume(volumeNode)
        self._matrix = nodeMatrix(volumeNode)
        directions = self._matrix[:3, :3][:, ::-1]  # columns k, j, i; rows R, A, S
        self._order = _nearestAxes(directions)  # the array's axis along S, A and R
        standing = array.transpose(self._order)
        self._last = np.array(standing.shape) - 1
        self._isFlipped = np.array(
            [directions[2 - place, axis] < 0 for place, axis in enumerate(self._order)]
        )
        standing = np.flip(standing, tuple(np.flatnonzero(self._isFlipped)))
        spacing = np.array([np.linalg.norm(directions[:, axis]) for axis in self._order])
        self._factors = np.array(_factors(standing.shape, spacing))
        for axis, factor in enumerate(self._factors):
            if factor > 1:
                starts = np.arange(0, standing.shape[axis], factor)
                standing = np.maximum.reduceat(standing, starts, axis=axis)
        self.array = np.ascontiguousarray(standing, dtype=np.float32)
        self.spacing = spacing * self._factors
        self.origin = self.point(np.zeros(3, int))[::-1]

    def point(self, place: np.ndarray) -> np.ndarray:
        """The center of a reduced voxel (S, A, R) in the scan's own RAS."""
        full = np.minimum(self._factors * place + (self._factors - 1) / 2, self._last)
        full = np.where(self._isFlipped, self._last - full, full)
        kji = np.empty(3)
        kji[list(self._order)] = full
        return (self._matrix @ [*kji[::-1], 1.0])[:3]


def _nearestAxes(directions: np.ndarray) -> tuple[int, int, int]:
    """The columns that lie nearest to S, A and R, each taken once."""
    size = np.abs(directions / np.linalg.norm(directions, axis=0))
    s = int(np.argmax(size[2]))
    a = max((axis for axis in range(3) if axis != s), key=lambda axis: size[1, axis])
    return s, a, 3 - s - a


def _factors(shape: tuple[int, ...], spacing: np.ndarray) -> tuple[int, ...]:
    """How many voxels become one along each axis: the finest axis is reduced first."""
    factors = np.ones(3, int)
    while np.prod(np.ceil(np.array(shape) / factors)) > MOST_VOXELS:
        factors[int(np.argmin(spacing * factors))] += 1
    return tuple(int(factor) for factor in factors)


def _node(volumeNode):
    node = projectionsOf(volumeNode)
    if node is None:
        name = slicer.mrmlScene.GenerateUniqueName(_("{name} MIP (DRMC)").format(name=volumeNode.GetName()))
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
        node.SetAttribute(_MARK, "yes")
        node.SetAttribute(*INTENDED_USE)
        volumeNode.SetNodeReferenceID(REFERENCE, node.GetID())
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetSaveWithScene(False)
    return node
