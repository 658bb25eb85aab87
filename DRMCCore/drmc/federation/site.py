"""What a hospital says for itself: where its data are and where its run is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drmc.datasets.manifest import Case, read_manifest, select
from drmc.errors import InputError
from drmc.files import read_json_object
from drmc.settings import check, from_json, located, setting

Cases = dict[str, list[Case]]


@dataclass(frozen=True)
class SiteSettings:
    """A site's own settings; none of them leaves it.

    Attributes:
        dataset: folder of its dataset.
        output: folder for checkpoints, log, exchanged messages and models.
        center: the center's name in the dataset, "": the plan's name, or the only one that there is.
        prepared: as in `drmc.training.config.TrainingConfig`.
        threads: threads of PyTorch, 0 = its own choice.
        slots_at_once: slots that are computed together, 0 = all; fewer need less memory.
        accept_changed_data: whether the run continues although the images changed.
    """

    dataset: str = setting(not_empty=True, pattern="(?s).+", what="a folder")
    output: str = setting(pattern="(?s).+", what="a folder")
    center: str = ""
    prepared: str = ""
    threads: int = setting(0, at_least=0)
    slots_at_once: int = setting(0, at_least=0)
    accept_changed_data: bool = False

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def read(cls, path: Path) -> SiteSettings:
        """Reads a JSON file; relative paths in it are relative to the file's folder.

        Raises:
            InputError: it cannot be read, a key is unknown or missing, or a value is not allowed.
        """
        values: dict[str, Any] = read_json_object(path)
        folder = Path(path).resolve().parent
        for key in ("dataset", "output", "prepared"):
            if isinstance(values.get(key), str) and values[key]:
                values[key] = str(folder / values[key])
        with located(str(path)):
            return cls(**from_json(cls, values))

    def own(self) -> dict[str, Any]:
        """The settings of the training that are the site's own, beside its folders."""
        return {
            "prepared": self.prepared,
            "threads": self.threads,
            "slots_at_once": self.slots_at_once,
            "accept_changed_data": self.accept_changed_data,
        }

    def cases(self, center: str) -> tuple[Cases, Cases]:
        """The training and the validation cases, under the name that the plan has for the center.

        Raises:
            InputError: the dataset cannot be read, or has no such center or no such cases.
        """
        cases = read_manifest(Path(self.dataset))
        there = sorted({case.center for case in cases})
        name = self.center or (center if center in there or len(there) != 1 else there[0])
        if name not in there:
            raise InputError(
                f"{self.dataset}: has no center {name} (there are {', '.join(there)}): name the site's with "
                '"center" in its configuration'
            )
        training, validation = (select(cases, split, (name,))[name] for split in ("train", "validation"))
        return {center: training}, {center: validation}
