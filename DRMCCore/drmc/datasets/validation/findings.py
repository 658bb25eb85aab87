"""What a check has found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

ERROR, WARNING = "error", "warning"

Note = Callable[[str, str], None]
"""Notes a finding: its code, a key of CODES, and a message."""

CODES = {
    "manifest.entry": "an entry of the manifest is bad, or lacks a key",
    "manifest.split": "a split that training does not know",
    "manifest.unlisted": "a case folder that the manifest does not name",
    "file.missing": "a file that the manifest names is not there",
    "file.unreadable": "a file is damaged, or no image",
    "facts.unreadable": "the side-car is no JSON object",
    "facts.weight": "a body weight that nobody has",
    "facts.activity": "an injected activity that nobody gets",
    "units.unknown": "no units that can be turned into SUV",
    "units.unstated": "nothing says that the values are SUV",
    "units.implausible": "values that are no SUV of a body",
    "voxels.not-finite": "voxels that are NaN or infinite",
    "voxels.constant": "all voxels are the same",
    "voxels.negative": "many negative voxels in the body",
    "geometry.differs": "low and full dose, or truth, lie on different grids",
    "labels.grid": "labels lie on another grid than the image",
    "labels.values": "labels that are no whole numbers from 0 up",
    "dose.factor": "dose reduction factors that contradict each other",
    "dose.identical": "two doses are the same image",
    "dose.noise": "the noise does not fit the dose",
    "dose.order": "a lower dose has less noise than a higher one",
    "dose.activity": "low and full dose hold different activity",
    "truth.activity": "truth and full dose hold different activity",
    "body.differs": "an image without noise or without correction for attenuation shows another body",
    "body.unlike": "low and full dose have their uptake in different places",
    "duplicate.id": "two cases of one name",
    "duplicate.image": "the same image in two cases",
    "duplicate.near": "nearly the same image in two cases",
    "duplicate.patient": "one patient in several splits",
    "duplicate.seed": "two simulated cases of one seed",
}


@dataclass(frozen=True)
class Finding:
    """One fault of a dataset."""

    severity: str
    """`ERROR` or `WARNING`."""
    code: str
    """A key of `CODES`."""
    case: str
    """Empty where the fault concerns the whole dataset."""
    message: str

    def to_dict(self) -> dict[str, str]:
        """JSON-able."""
        return asdict(self)

    def line(self) -> str:
        """One line for people."""
        where = f"{self.case}: " if self.case else ""
        return f"{self.severity} [{self.code}] {where}{' '.join(self.message.split())}"


class Findings:
    """Collects findings of one dataset."""

    def __init__(self) -> None:
        self._found: list[Finding] = []

    def of(self, case: str) -> tuple[Note, Note]:
        """Two functions (code, message) that note an error and a warning of a case."""

        def noting(severity: str) -> Note:
            def note(code: str, message: str) -> None:
                if code not in CODES:
                    raise KeyError(code)
                self._found.append(Finding(severity, code, case, message))

            return note

        return noting(ERROR), noting(WARNING)

    def sorted(self) -> list[Finding]:
        """Errors first, then by case and code."""
        return sorted(self._found, key=lambda f: (f.severity != ERROR, f.case, f.code, f.message))
