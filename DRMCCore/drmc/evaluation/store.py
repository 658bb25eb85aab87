"""Results that were computed before: a JSON file per case, records under a key of all they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from drmc.errors import InputError
from drmc.files import jsonable, safe_name, write_json

MEASURES = 2  # raise it when a measure or a filter changes: what is stored is then computed again


class Store:
    """The records of one case by key. A file that cannot be read counts as empty."""

    def __init__(self, path: Path):
        self._path = path
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self._records: dict[str, Any] = dict(found["records"])
        except (OSError, ValueError, KeyError, TypeError):
            self._records = {}

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of that key, if there is one."""
        return self._records.get(key)

    def put(self, key: str, record: Mapping[str, object]) -> dict[str, Any]:
        """Keeps a record on disk; returns it as it reads back, with null for what is not finite."""
        self._records[key] = jsonable(record)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, {"records": self._records})
        except OSError as error:
            raise InputError(
                f"{self._path} cannot be written ({error.strerror}): make room or choose another output; "
                "what was computed before is kept"
            ) from None
        return self._records[key]


def file_in(folder: Path, *names: str) -> Path:
    """The JSON file of a case in the output folder; its name is safe on every file system, and unique."""
    parts = [safe_name(name) for name in names]
    return folder.joinpath(*parts[:-1], parts[-1] + ".json")


def key_of(*depends_on: Any) -> str:
    """A key of everything that a record depends on, JSON-able."""
    text = json.dumps([MEASURES, *depends_on], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


def checksums(files: Iterable[tuple[str, Path]]) -> dict[str, str]:
    """SHA-256 of files by their names; of a folder, of all files in it."""
    found = {}
    for name, path in files:
        digest = hashlib.sha256()
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                try:
                    with open(file, "rb") as stream:
                        own = (
                            hashlib.file_digest(stream, "sha256") if hasattr(hashlib, "file_digest") else None
                        )
                        content = own.digest() if own else hashlib.sha256(stream.read()).digest()
                except OSError as error:
                    raise InputError(f"{file}: cannot be read ({error.strerror})") from None
                digest.update(content)
        found[name] = digest.hexdigest()
    return found
