"""The table of organs: what a network labels, and how each label is named, coded and colored.

Interface, files, measures and reports read nothing else. The 23 organs are a choice of this project: those
of the publication are not known by name. The classes behind them are labeled and shown, but count in no mean
over organs. Imports neither torch nor SimpleITK.

Codes are SNOMED CT. Names and colors are those of Slicer's "3D Slicer General Anatomy list" where it has
the organ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

LEFT, RIGHT, MIDDLE = "left", "right", ""
GENERAL_ANATOMY = "Segmentation category and type - 3D Slicer General Anatomy list"
DICOM_MASTER = "Segmentation category and type - DICOM master list"
ORGANS = 23
"""Organs that count in means over organs: the classes 1 to 23."""

SIDE_CODES = {LEFT: ("7771000", "Left"), RIGHT: ("24028007", "Right")}
CATEGORY = ("123037004", "Anatomical Structure")
"""As Slicer's terminologies have it; DICOM's own code is `DICOM_CATEGORY`."""
DICOM_CATEGORY = ("91723000", "Anatomical Structure")


@dataclass(frozen=True)
class OrganClass:
    """One label of a segmentation.

    Attributes:
        index: label value; 0 is the background.
        name: of the segment.
        code: SNOMED CT code of the organ, without its side.
        meaning: of the code.
        color: red, green and blue, 0 to 255.
        plausible_ml: volumes between which a whole organ of an adult lies (assumed, wide).
        simulated: names of the simulator's organs that are painted in its place.
        side: LEFT, RIGHT or MIDDLE.
        context: name of the terminology that has the code.
        parts: whether it may consist of several parts in a scan.
        solid: whether what it encloses belongs to it, such as a lesion without uptake.
        tracers: tracers whose uptake in it may be high without any disease, so that what is hot there is
            marked as physiological. Not the liver with FDG, for instance: uptake above that of a healthy
            liver is a finding.
    """

    index: int
    name: str
    code: str
    meaning: str
    color: tuple[int, int, int]
    plausible_ml: tuple[float, float]
    simulated: tuple[str, ...]
    side: str = MIDDLE
    context: str = GENERAL_ANATOMY
    parts: bool = False
    solid: bool = False
    tracers: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether it is one of the organs over which means are taken."""
        return self.index <= ORGANS

    @property
    def key(self) -> str:
        """Its name in files that programs read, e.g. kidney_left."""
        name = self.name.removeprefix(f"{self.side} ") if self.side else self.name
        return "_".join([*name.split(), *([self.side] if self.side else [])])

    @property
    def terminology(self) -> str:
        """The terminology entry as Slicer stores it with a segment."""
        side = "^^" if self.side == MIDDLE else "SCT^{}^{}".format(*SIDE_CODES[self.side])
        category = "SCT^{}^{}".format(*CATEGORY)
        return (
            f"{self.context}~{category}~SCT^{self.code}^{self.meaning}~{side}"
            "~Anatomic codes - DICOM master list~^^~^^"
        )


@dataclass(frozen=True)
class _Row:
    """An organ, both sides of a pair; fields as those of `OrganClass`."""

    name: str
    code: str
    meaning: str
    color: tuple[int, int, int]
    plausible_ml: tuple[float, float]
    simulated: tuple[str, ...]
    paired: bool = False
    context: str = GENERAL_ANATOMY
    parts: bool = False
    solid: bool = False
    tracers: tuple[str, ...] = ()


_BRAIN = ("gray_matter", "white_matter", "csf", "deep_gray", "cerebellum", "brainstem", "pituitary")
_EVERY = ("FDG", "PSMA-11", "DOTATATE", "FAPI")
_F, _P, _D, _A = ((name,) for name in _EVERY)
# fmt: off
_ROWS = (
    _Row("brain", "12738006", "Brain", (250, 250, 225), (900, 1800), _BRAIN, solid=True, tracers=_F),
    _Row("thyroid gland", "69748006", "Thyroid", (62, 162, 114), (4, 60), ("thyroid",), parts=True),
    _Row("lung", "39607008", "Lung", (197, 165, 145), (500, 4000), ("lung",), paired=True, parts=True),
    _Row("heart", "80891009", "Heart", (206, 110, 84), (300, 1200), ("heart", "myocardium"), solid=True,
         tracers=_F),
    _Row("aorta", "15825003", "Aorta", (224, 97, 76), (60, 450), ("aorta",), parts=True),
    _Row("esophagus", "32849002", "Esophagus", (211, 171, 143), (10, 80), ("esophagus",), parts=True),
    _Row("liver", "10200004", "Liver", (221, 130, 101), (700, 3500), ("liver",), solid=True, tracers=_P + _D),
    _Row("gallbladder", "28231008", "Gallbladder", (139, 150, 98), (3, 150), ("gallbladder",),
         tracers=_P + _A),
    _Row("spleen", "78961009", "Spleen", (157, 108, 162), (50, 900), ("spleen",), solid=True,
         tracers=_P + _D),
    _Row("stomach", "69695003", "Stomach", (216, 132, 105), (60, 900), ("stomach_wall", "stomach_content"),
         tracers=_F + _D),
    _Row("pancreas", "15776009", "Pancreas", (249, 180, 111), (25, 220), ("pancreas",), parts=True,
         tracers=_D + _A),
    _Row("duodenum", "38848004", "Duodenum", (255, 253, 229), (20, 180), ("duodenum",), parts=True,
         tracers=_P),
    _Row("small bowel", "30315005", "Small Intestine", (205, 167, 142), (150, 1800), ("small_bowel",),
         parts=True, tracers=_F + _P + _D),
    _Row("colon", "71854001", "Colon", (204, 168, 143), (200, 1800), ("colon",), parts=True, tracers=_F + _D),
    _Row("kidney", "64033007", "Kidney", (185, 102, 83), (60, 350), ("kidney_cortex", "renal_pelvis"),
         paired=True, solid=True, tracers=_EVERY),
    _Row("adrenal gland", "23451007", "Adrenal gland", (249, 186, 150), (1, 20), ("adrenal",), paired=True),
    _Row("urinary bladder", "89837001", "Bladder", (222, 154, 132), (15, 900), ("bladder",), tracers=_EVERY),
    _Row("vertebrae", "51282000", "Vertebra", (255, 255, 207), (300, 1500), ("vertebra", "vertebra_process"),
         context=DICOM_MASTER, parts=True),
    _Row("hip", "29836001", "Hip", (241, 214, 145), (120, 800), ("pelvis_marrow",), paired=True, parts=True),
    # not in the mean over organs
    _Row("salivary gland", "385294005", "Salivary gland", (70, 163, 117), (10, 80), ("salivary",),
         paired=True, context=DICOM_MASTER, parts=True, tracers=_EVERY),
    _Row("trachea", "44567001", "Trachea", (182, 228, 255), (10, 90), ("trachea",), parts=True),
    _Row("sacrum", "54735007", "Sacrum", (163, 140, 140), (80, 400), ("sacrum",), context=DICOM_MASTER),
    _Row("femur", "71341001", "Femur", (130, 222, 207), (40, 700), ("femur_marrow",), paired=True,
         context=DICOM_MASTER, parts=True),
    # coded as where it lies, since neither organ is right for both sexes
    _Row("prostate or uterus", "816092008", "Pelvis", (230, 158, 140), (5, 250), ("prostate_uterus",),
         context=DICOM_MASTER),
    _Row("spinal cord", "2748008", "Spinal cord", (244, 214, 49), (15, 150), ("spinal_cord",), parts=True),
)
# fmt: on


@cache
def classes() -> tuple[OrganClass, ...]:
    """All classes in the order of their label values, from 1."""
    found: list[OrganClass] = []
    for row in _ROWS:
        values = {key: value for key, value in vars(row).items() if key not in ("name", "paired")}
        for side in (LEFT, RIGHT) if row.paired else (MIDDLE,):
            name = f"{side} {row.name}" if side else row.name
            found.append(OrganClass(index=len(found) + 1, name=name, side=side, **values))
    return tuple(found)


@cache
def by_name() -> dict[str, OrganClass]:
    """The classes by the names of their segments and by their keys."""
    return {name: one for one in classes() for name in (one.name, one.key)}


def called(text: str) -> OrganClass | None:
    """The class that a segment's name means, in any case and with spaces or underscores; None for others."""
    return _by_words().get(_words(text))


@cache
def _by_words() -> dict[str, OrganClass]:
    return {_words(name): one for name, one in by_name().items()}


def _words(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").split())


def organs() -> tuple[OrganClass, ...]:
    """The classes that count in means over organs."""
    return classes()[:ORGANS]


def opposite(one: OrganClass) -> OrganClass | None:
    """The same organ on the other side, None for an organ in the middle."""
    if one.side == MIDDLE:
        return None
    return next(other for other in classes() if other.code == one.code and other.side not in (one.side, ""))
