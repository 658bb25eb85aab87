"""Which series of a folder is meant: its only attenuation-corrected PET, or the one that the caller names.

An export of a PACS has corrected and uncorrected PET, projections, CT and secondary captures in one folder.
No names, IDs or birth dates go into messages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from pydicom.dataset import Dataset

from drmc.dicom.enhanced import MULTI_FRAME_CLASSES, first_frame
from drmc.dicom.header import number_of, text_of, texts_of, value_of
from drmc.errors import InputError
from drmc.paths import AnyPath

PET_CLASS = "1.2.840.10008.5.1.4.1.1.128"
PET_CLASSES = (PET_CLASS, *MULTI_FRAME_CLASSES)
_LISTED = 8  # series in a message


def is_projection(image_type: Collection[str]) -> bool:
    """Whether the values of ImageType (0008,0008) name a projection: MIP, PROJECTION IMAGE, MIP_COR, ..."""
    return any(re.search(r"(^|[^A-Z])MIPS?([^A-Z]|$)|PROJECTION", str(value).upper()) for value in image_type)


@dataclass
class Group:
    """The files of one SeriesInstanceUID with their headers (no pixel data)."""

    uid: str
    loaded: list[tuple[AnyPath, Dataset]]

    @property
    def modality(self) -> str:
        """Modality (0008,0060)."""
        return text_of(value_of(self.loaded[0][1], "Modality")).upper()

    @property
    def sop_class(self) -> str:
        """SOPClassUID (0008,0016)."""
        return text_of(value_of(self.loaded[0][1], "SOPClassUID"))

    @property
    def multi_frame(self) -> bool:
        """Whether it is a multi-frame PET image."""
        return self.sop_class in MULTI_FRAME_CLASSES

    @property
    def is_pet(self) -> bool:
        """Whether it is PET in a form that is read."""
        return self.modality == "PT" and self.sop_class in PET_CLASSES

    @cached_property
    def first(self) -> Dataset:
        """The header of its first image; of a multi-frame image, of its first frame."""
        path, header = self.loaded[0]
        return first_frame(path, header) if self.multi_frame else header

    @property
    def is_corrected(self) -> bool:
        """Whether CorrectedImage (0028,0051) says that it is corrected for attenuation."""
        return "ATTN" in texts_of(value_of(self.first, "CorrectedImage"))

    @property
    def is_projection(self) -> bool:
        """Whether ImageType (0008,0008) says that it was projected from a volume, as a MIP."""
        return is_projection(texts_of(value_of(self.first, "ImageType")))

    @property
    def description(self) -> str:
        """SeriesDescription (0008,103E) as it stands; it may name somebody, so never show it."""
        return text_of(value_of(self.first, "SeriesDescription"))

    def line(self) -> str:
        """What a person needs to choose among series, without free text that names somebody."""
        first = self.loaded[0][1]
        facts = [self.modality, f"{len(self.loaded)} images"]
        if self.multi_frame:
            frames = sum(int(number_of(value_of(h, "NumberOfFrames")) or 0) for _, h in self.loaded)
            facts[1] = f"{frames} frames of {MULTI_FRAME_CLASSES[self.sop_class]}"
            first = self.first
        if self.modality == "PT":
            facts.append("attenuation-corrected" if self.is_corrected else "not attenuation-corrected")
            facts += ["projection"] if self.is_projection else []
            facts += [
                t for t in (text_of(value_of(first, k)) for k in ("Units", "ReconstructionMethod")) if t
            ]
        description = _description(first)
        return f"{self.uid} ({', '.join(facts)}{f', {description!r}' if description else ''})"


# Who is named in a header; a description that repeats a word of it is not shown.
_IDENTITY = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientBirthDate",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "AccessionNumber",
    "StudyID",
    "InstitutionName",
    "InstitutionAddress",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "PhysiciansOfRecord",
    "RequestingPhysician",
    "OperatorsName",
)


def _description(header: Dataset) -> str:
    """SeriesDescription (0008,103E), cut to 40 characters; "" where it repeats a value of _IDENTITY."""
    text = text_of(value_of(header, "SeriesDescription"))

    def words(value: str) -> set[str]:
        found = re.findall(r"[^\W_]+", value.casefold())
        return {word for word in found if len(word) >= (3 if word.isascii() else 2)}

    named: set[str] = set()
    for keyword in _IDENTITY:
        value = value_of(header, keyword)
        for item in value if isinstance(value, list) else [value]:
            named |= words(text_of(item))
    compact = "".join(re.findall(r"[^\W_]+", text.casefold()))
    if any(word in compact for word in named):
        return ""
    return "".join(c for c in text if c.isprintable())[:40]


def choose(
    groups: Sequence[Group], series_uid: str | None, path: AnyPath, description: str | None = None
) -> tuple[Group, list[str]]:
    """The series that is meant, and notices on the others.

    `series_uid`: its UID; `description`: a part of its SeriesDescription (0008,103E), in capitals or not,
    which only one PET series holds. Without both, the only PET series, or of several the only one that is
    corrected for attenuation and no projection. Raises InputError with a list of those to choose from.
    """
    if series_uid is not None:
        found = next((group for group in groups if group.uid == series_uid.strip()), None)
        if found is None:
            raise InputError(f"{path} has no series {series_uid}: choose one of {_listing(groups)}")
        if description is not None and not _is_described(found, description):
            raise InputError(
                f"{path}: the description of series {found.uid} does not hold {description!r}: leave out "
                "one of both, or correct it"
            )
        return found, []
    pet = [group for group in groups if group.is_pet]
    if not pet:
        if len(groups) == 1:
            return groups[0], []
        raise InputError(
            f"{path} holds no PET series (Modality (0008,0060) PT) but {_listing(groups)}: choose the folder "
            "of the PET series"
        )
    if description is not None:
        named = [group for group in pet if _is_described(group, description)]
        if len(named) != 1:
            how = "no PET series" if not named else f"{len(named)} PET series"
            raise InputError(
                f"{path} holds {how} with {description!r} in the description: give a text that one alone "
                f"holds, or its UID (--series), of {_listing(named or pet)}"
            )
        return named[0], _others(groups, named[0])
    candidates = (
        [group for group in pet if group.is_corrected and not group.is_projection] if pet[1:] else pet
    )
    if len(candidates) != 1:
        listed = candidates or pet
        which = "PET series" if not candidates else "attenuation-corrected PET series"
        raise InputError(
            f"{path} holds {len(listed)} {which}: choose one by its UID (--series UID) of "
            f"{_listing(listed)}; or by a part of its description (--series-description TEXT)"
        )
    chosen = candidates[0]
    passed = [group for group in pet if group is not chosen]
    notices = []
    if passed:
        notices.append(
            f"the only attenuation-corrected PET series of {len(pet)} was taken: {chosen.line()}; passed "
            f"over: {_listing(passed)}"
        )
    return chosen, notices + _others(groups, chosen, passed)


def _is_described(group: Group, text: str) -> bool:
    return text.strip().casefold() in group.description.casefold()


def _others(groups: Sequence[Group], chosen: Group, named: Sequence[Group] = ()) -> list[str]:
    """What was left aside, by modality."""
    ignored = Counter(group.modality for group in groups if group is not chosen and group not in named)
    if not ignored:
        return []
    listed = ", ".join(f"{count} {modality}" for modality, count in sorted(ignored.items()))
    return [f"other series in the folder were ignored: {listed}"]


def _listing(groups: Sequence[Group]) -> str:
    more = f"; {len(groups) - _LISTED} more" if len(groups) > _LISTED else ""
    return "; ".join(group.line() for group in groups[:_LISTED]) + more
