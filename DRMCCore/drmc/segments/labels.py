"""Label images (NIfTI, NRRD, MHA) and Slicer's `.seg.nrrd`: layers, label values and names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from drmc.errors import InputError
from drmc.imaging.formats import IMAGE_ENDINGS, stem
from drmc.paths import AnyPath, plain
from drmc.texts import shown

MAXIMUM_LABELS = 2000  # more distinct values than this is an image, not a segmentation
ENDINGS = (".seg.nrrd", *IMAGE_ENDINGS)


@dataclass(frozen=True)
class Entry:
    """The place of a segment in a file: its layer and its label value."""

    name: str
    layer: int
    label: int


def layers_of(image: sitk.Image, path: AnyPath) -> list[sitk.Image]:
    """The scalar 3-D label images of a file; Slicer puts segments that overlap into different layers.

    Raises:
        InputError: the image has neither three nor four axes.
    """
    if image.GetDimension() == 4:
        volumes = [image[:, :, :, index] for index in range(image.GetSize()[3])]
    elif image.GetDimension() == 3:
        volumes = [image]
    else:
        raise InputError(f"{path}: a segmentation is a 3-D image, this one has {image.GetDimension()} axes")
    layers = []
    for volume in volumes:
        count = volume.GetNumberOfComponentsPerPixel()
        if count == 1:
            layers.append(volume)
        else:
            layers.extend(sitk.VectorIndexSelectionCast(volume, index) for index in range(count))
    return layers


def labels_of(layer: sitk.Image, path: AnyPath) -> dict[int, int]:
    """Number of voxels by label value in this layer, without 0.

    Raises:
        InputError: the values are not those of a segmentation (complex, fractional, negative, too many).
    """
    array = sitk.GetArrayViewFromImage(layer)
    if np.issubdtype(array.dtype, np.complexfloating):
        raise InputError(f"{path}: a segmentation has whole numbers, not {layer.GetPixelIDTypeAsString()}")
    marked = array[array != 0]
    values, counts = np.unique(marked, return_counts=True)
    bad = values[~(np.isfinite(values) & (values == np.round(values)) & (values > 0))]
    if bad.size:
        raise InputError(
            f"{path}: has the value {bad[0]:.6g}; a segmentation has whole numbers of at least 0 (is this "
            "the image itself?)"
        )
    if values.size > MAXIMUM_LABELS:
        raise InputError(f"{path}: has {values.size} different values; this is an image, not a segmentation")
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def entries_of(image: sitk.Image, path: AnyPath, labels: list[dict[int, int]]) -> list[Entry]:
    """The segments of a label image or `.seg.nrrd` file, in its order, with unique names.

    Args:
        image: the image with its metadata.
        path: its file, for messages and for names of label values without a name.
        labels: voxels by label value, for each layer (`labels_of`).

    Raises:
        InputError: a layer or label value in the metadata is not a number, or names a layer that does not
            exist.
    """
    keys = set(image.GetMetaDataKeys())
    indices = sorted(
        {int(match.group(1)) for key in keys if (match := re.fullmatch(r"Segment(\d+)_(?:ID|Name)", key))}
    )

    def value(index: int, key: str, default: str) -> str:
        name = f"Segment{index}_{key}"
        return image.GetMetaData(name).strip() if name in keys else default

    # Files of Slicer before 4.11 have one layer per segment and neither of the two keys.
    one_layer_each = len(labels) == len(indices) > 1
    entries: list[Entry] = []
    for position, index in enumerate(indices):
        name = value(index, "Name", "") or value(index, "ID", "") or f"Segment {index}"
        try:
            layer = int(value(index, "Layer", str(position if one_layer_each else 0)))
            label = int(value(index, "LabelValue", "1"))
        except ValueError as error:
            raise InputError(f"{path}: Segment{index}_Layer or _LabelValue is not a whole number") from error
        if not 0 <= layer < len(labels):
            raise InputError(
                f"{path}: Segment{index}_Layer is {layer}, but the file has {len(labels)} layers"
            )
        entries.append(Entry(name, layer, label))
    named = {(entry.layer, entry.label) for entry in entries}
    rest = [
        (layer, label)
        for layer, present in enumerate(labels)
        for label in sorted(present)
        if (layer, label) not in named
    ]
    base = stem(path, ENDINGS) or plain(path).stem
    if len(rest) == 1 and not entries:
        entries.append(Entry(base, *rest[0]))
    else:
        several = len({label for _, label in rest}) < len(rest)
        entries.extend(
            Entry(f"{base}_{layer + 1}_{label}" if several else f"{base}_{label}", layer, label)
            for layer, label in rest
        )
    return unique_names(entries)


def unique_names(entries: Iterable[Entry]) -> list[Entry]:
    """Makes names unique, since rows of the lesion table are found by name: a second A becomes 'A (2)'."""
    used: set[str] = set()
    unique = []
    for entry in entries:
        base = shown(entry.name)  # no undecodable bytes, no control characters
        name, number = base, 2
        while name in used:
            name, number = f"{base} ({number})", number + 1
        used.add(name)
        unique.append(Entry(name, entry.layer, entry.label))
    return unique
