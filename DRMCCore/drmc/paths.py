"""Paths that messages call by another name than where the file lies."""

from __future__ import annotations

import os
from pathlib import Path


class LabeledPath:
    """A file or folder of a scan that another program names, such as a volume of Slicer.

    `os.fspath` gives the real path, `str` what messages call it: the label in quotes, for a part of the scan
    with the name of its file.
    """

    def __init__(self, path: str | os.PathLike[str], label: str, *, is_part: bool = False):
        self._path = Path(path)
        self.label = label
        self._is_part = is_part

    def __fspath__(self) -> str:
        return os.fspath(self._path)

    def __str__(self) -> str:
        return f"'{self.label}' ({self.name})" if self._is_part else f"'{self.label}'"

    def __repr__(self) -> str:
        return f"LabeledPath({os.fspath(self)!r}, {self.label!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabeledPath) and (self._path, self.label) == (other._path, other.label)

    def __hash__(self) -> int:
        return hash((self._path, self.label))

    @property
    def name(self) -> str:
        """The real name of the file."""
        return self._path.name

    @property
    def suffix(self) -> str:
        """The ending of the real name."""
        return self._path.suffix

    @property
    def parent(self) -> LabeledPath:
        """The folder, which stands for the whole scan."""
        return LabeledPath(self._path.parent, self.label)

    def exists(self) -> bool:
        """As of pathlib.Path."""
        return self._path.exists()

    def is_dir(self) -> bool:
        """As of pathlib.Path."""
        return self._path.is_dir()

    def is_file(self) -> bool:
        """As of pathlib.Path."""
        return self._path.is_file()

    def stat(self) -> os.stat_result:
        """As of pathlib.Path."""
        return self._path.stat()


AnyPath = Path | LabeledPath


def labeled(path: str | os.PathLike[str], label: str | None) -> AnyPath:
    """The path with its label; the plain path without one, or with an empty one."""
    return LabeledPath(path, label) if label and label.strip() else Path(path)


def part(whole: AnyPath, path: Path) -> AnyPath:
    """A file of the scan `whole`, with that one's label."""
    return LabeledPath(path, whole.label, is_part=True) if isinstance(whole, LabeledPath) else path


def plain(path: AnyPath) -> Path:
    """The path without a label."""
    return Path(path)
