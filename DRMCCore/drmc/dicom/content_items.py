"""Content items of structured reports (DICOM PS3.3 C.17.3), each a data set of its value type."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.valuerep import format_number_as_ds

from drmc.dicom.completion import code_item
from drmc.dicom.references import Instance

Code = tuple[str, str, str]  # value, scheme, meaning

CONTAINS = "CONTAINS"
OBSERVATION_CONTEXT, CONCEPT_MODIFIER = "HAS OBS CONTEXT", "HAS CONCEPT MOD"
ACQUISITION_CONTEXT = "HAS ACQ CONTEXT"


def container(
    name: Code, items: Iterable[Dataset], *, template: str | None = None, relation: str | None = CONTAINS
) -> Dataset:
    """A container with its items; `template`: its TID; without a `relation` it is the root of a document."""
    item = _item("CONTAINER", name, relation)
    item.ContinuityOfContent = "SEPARATE"
    if template is not None:
        identification = Dataset()
        identification.MappingResource, identification.TemplateIdentifier = "DCMR", template
        item.ContentTemplateSequence = Sequence([identification])
    item.ContentSequence = Sequence(items)
    return item


def code(name: Code, value: Code, relation: str = CONTAINS) -> Dataset:
    """A coded value."""
    item = _item("CODE", name, relation)
    item.ConceptCodeSequence = Sequence([code_item(*value)])
    return item


def text(name: Code, value: str, relation: str = CONTAINS) -> Dataset:
    """A text."""
    item = _item("TEXT", name, relation)
    item.TextValue = value
    return item


def uid(name: Code, value: str, relation: str = CONTAINS) -> Dataset:
    """A UID."""
    item = _item("UIDREF", name, relation)
    item.UID = value
    return item


def measurement(
    name: Code, value: float, unit: Code, modifiers: Iterable[Dataset] = (), relation: str = CONTAINS
) -> Dataset:
    """A number with its unit, as a decimal string and in full precision."""
    item = _item("NUM", name, relation)
    measured = Dataset()
    measured.NumericValue = format_number_as_ds(float(value))
    measured.FloatingPointValue = float(value)
    measured.MeasurementUnitsCodeSequence = Sequence([code_item(*unit)])
    item.MeasuredValueSequence = Sequence([measured])
    modifiers = list(modifiers)
    if modifiers:
        item.ContentSequence = Sequence(modifiers)
    return item


def image(instance: Instance, name: Code | None = None, relation: str = CONTAINS) -> Dataset:
    """A reference to an image."""
    item = _item("IMAGE", name, relation)
    item.ReferencedSOPSequence = Sequence([instance.item()])
    return item


def _item(value_type: str, name: Code | None, relation: str | None) -> Dataset:
    item = Dataset()
    if relation is not None:
        item.RelationshipType = relation
    item.ValueType = value_type
    if name is not None:
        item.ConceptNameCodeSequence = Sequence([code_item(*name)])
    return item
