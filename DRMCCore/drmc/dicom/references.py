"""References to DICOM instances, and the evidence of a document that refers to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from drmc.dicom.header import text_of, value_of


@dataclass(frozen=True)
class Instance:
    """The UIDs of an instance, its SOP class, and the study and series that it lies in."""

    sop_class: str
    sop_instance: str
    series: str
    study: str

    def item(self) -> Dataset:
        """An item of a sequence that references SOP instances (PS3.3 table 10-11)."""
        item = Dataset()
        item.ReferencedSOPClassUID = self.sop_class
        item.ReferencedSOPInstanceUID = self.sop_instance
        return item


def instance_of(header: Dataset) -> Instance:
    """The instance that a header belongs to."""
    keywords = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    return Instance(*(text_of(value_of(header, keyword)) for keyword in keywords))


def evidence(instances: Iterable[Instance]) -> Sequence:
    """The instances by study and series (PS3.3 table C.17-3b), each once, in their order."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for one in dict.fromkeys(instances):
        studies.setdefault(one.study, {}).setdefault(one.series, []).append(one.item())
    found = Sequence()
    for study, by_series in studies.items():
        item = Dataset()
        item.StudyInstanceUID = study
        item.ReferencedSeriesSequence = Sequence()
        for series, instances_of_series in by_series.items():
            series_item = Dataset()
            series_item.SeriesInstanceUID = series
            series_item.ReferencedSOPSequence = Sequence(instances_of_series)
            item.ReferencedSeriesSequence.append(series_item)
        found.append(item)
    return found
