"""Line edits for values of a DICOM header that the user enters by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from drmc.errors import InputError
from drmc.suv import manual
from slicer.i18n import tr as _

from DRMCCoreLib.words.wording import inPanelWords

MEGA = 1e6  # the dose is in MBq here, and in Bq in the header


def labels() -> dict[str, str]:
    """The label of each field, with its unit, in the order in which they are shown."""
    return {
        "PatientWeight": _("Weight [kg]:"),
        "PatientSize": _("Height [m]:"),
        "PatientSex": _("Sex:"),
        "RadionuclideTotalDose": _("Injected dose [MBq]:"),
        "RadionuclideHalfLife": _("Half-life [s]:"),
        "RadiopharmaceuticalStartTime": _("Time of injection:"),
        "RadiopharmaceuticalStartDateTime": _("Date and time of injection:"),
        "SeriesDate": _("Date of the series:"),
        "SeriesTime": _("Time of the series:"),
        "AcquisitionDate": _("Date of acquisition:"),
        "AcquisitionTime": _("Time of acquisition:"),
        "AcquisitionDateTime": _("Date and time of acquisition:"),
        "ActualFrameDuration": _("Duration of a frame [ms]:"),
        "DecayCorrection": _("Decay corrected to:"),
        "DecayCorrectionDateTime": _("Date and time of reference:"),
        "SUVType": _("Type of the stored SUV:"),
    }


class HeaderFields:
    """A line edit for each value that can be entered, in a form layout; empty keeps the header's value."""

    def __init__(self, formLayout, onEdited: Callable[[], None]):
        import qt  # the module file is imported where there is no Qt, too

        self.edits = {}
        for keyword, label in labels().items():
            edit = qt.QLineEdit()
            edit.setObjectName(f"{keyword}LineEdit")
            edit.setClearButtonEnabled(True)
            edit.setToolTip(
                _(
                    "{keyword}, {expected}: give it where the header's is missing or wrong. Empty takes the "
                    "header's, shown in gray; a single - leaves the header's out. Files are not changed."
                ).format(keyword=keyword, expected=_kindHere(keyword).expected)
            )
            edit.editingFinished.connect(onEdited)
            name = qt.QLabel(label)
            name.setBuddy(edit)
            formLayout.addRow(name, edit)
            self.edits[keyword] = edit

    def values(self) -> str:
        """The entered values, one KEYWORD=VALUE a line, in the header's units."""
        texts = {keyword: edit.text.strip() for keyword, edit in self.edits.items()}
        return "\n".join(f"{keyword}={_toHeader(keyword, text)}" for keyword, text in texts.items() if text)

    def setValues(self, lines: str) -> None:
        """Shows entered values, one KEYWORD=VALUE a line."""
        given = split(lines)
        for keyword, edit in self.edits.items():
            text = _fromHeader(keyword, given[keyword]) or "-" if keyword in given else ""
            if edit.text != text:
                edit.setText(text)

    def setStated(self, stated: dict[str, str]) -> None:
        """Shows the header's values in gray."""
        for keyword, edit in self.edits.items():
            text = _readable(_fromHeader(keyword, stated.get(keyword, "")), manual.KINDS[keyword].form)
            edit.setPlaceholderText(text or (_("not in the header") if stated else ""))


def split(lines: str) -> dict[str, str]:
    """The texts of KEYWORD=VALUE lines by keyword, unchecked."""
    pairs = (line.partition("=") for line in lines.splitlines() if line.strip())
    return {keyword: text for keyword, _equals, text in pairs}


def checked(lines: str) -> dict[str, str]:
    """The values as `DRMCDenoiseLogic.process` takes them; raises InputError for an invalid one."""
    return manual.checked(split(lines))


def mistake(lines: str) -> str:
    """The error of the first invalid value, in the words and unit of its field; empty if all are valid."""
    for keyword, text in split(lines).items():
        try:
            manual.checked({keyword: text})
        except InputError as error:
            kind, label = manual.KINDS.get(keyword), labels().get(keyword)
            if kind is None or label is None:  # from a scene that another version saved
                return inPanelWords(str(error))
            return _("{label} '{text}' cannot be used: write {expected}").format(
                label=label, text=_fromHeader(keyword, text), expected=_kindHere(keyword).expected
            )
    return ""


def _kindHere(keyword: str) -> manual.Kind:
    """What a value is in its field, which may have another unit than the header."""
    kind = manual.KINDS[keyword]
    return replace(kind, unit="MBq") if keyword == "RadionuclideTotalDose" else kind


def _toHeader(keyword: str, text: str) -> str:
    if text == "-":
        return ""
    text = text.replace(",", ".")  # a decimal comma; nothing else here has one
    return _scaled(text, MEGA) if keyword == "RadionuclideTotalDose" else text


def _fromHeader(keyword: str, text: str) -> str:
    return _scaled(text, 1 / MEGA) if keyword == "RadionuclideTotalDose" else text


def _scaled(text: str, factor: float) -> str:
    """A number times the factor; any other text stays, to be refused where it is used."""
    try:
        return f"{float(text) * factor:.10g}"
    except ValueError:
        return text


def _readable(text: str, form) -> str:
    """A time or date of a header with its numbers apart."""
    if form in ("time", "moment", "date"):
        text = re.sub(r"^(\d{4})(\d\d)(\d\d)(?=\d{6}|$)", r"\1-\2-\3 ", text).strip()
        text = re.sub(r"(?<!\d)(\d\d)(\d\d)(\d\d)(?=\.|$)", r"\1:\2:\3", text)
    return text
