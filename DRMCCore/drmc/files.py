"""Atomic writes, where a reader sees the old file or the whole new one, never a part; and reading configurations."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drmc import locks, texts
from drmc.errors import DiskFullError, InputError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path` with the same name ending; renames it over `path` on success.

    The ending is kept whole (`.nii.gz`), because writers choose the format by it. The temporary file is removed
    when the body raises.
    """
    path = Path(path)
    handle, temporary = locked_part(path)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def locked_part(path: Path) -> tuple[int | None, Path]:
    """A temporary file beside a path, locked for as long as it is open, so that no sweep takes it for a leftover."""
    while True:
        handle, name = tempfile.mkstemp(prefix=locks.PART, suffix="-" + path.name, dir=path.parent)
        if not locks.HOLDS_OPEN_FILES:
            os.close(handle)
            return None, Path(name)
        if locks.try_lock(handle) is not False and locks.still_there(handle, Path(name)):
            return handle, Path(name)
        os.close(handle)  # a sweep has just taken it for a leftover


@contextmanager
def disk_full_as_error(
    output: str | os.PathLike[str], advice: str = "make room, or choose another folder with -o"
) -> Iterator[None]:
    """Says where there is no room for what is written, and what to do; other errors pass."""
    try:
        yield
    except OSError as error:
        if isinstance(error, DiskFullError) or not is_full_disk(error):
            raise
        raise DiskFullError(f"{output}: {error.strerror}: {advice}") from None


def is_full_disk(error: BaseException) -> bool:
    """Whether an error of the system says that there is no room: the disk, a quota or a limit of size."""
    return isinstance(error, OSError) and error.errno in _FULL


_FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)}


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raises InputError for what is neither a file nor a folder: a named pipe, a socket, a device. Reading one may
    wait for ever or never end."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{path} is a link that leads back to itself: give the file itself") from None
        return  # whoever reads it says that it is not there
    kind = next((name for test, name in _SPECIAL if test(mode)), None)
    if kind is not None:
        raise InputError(f"{path} is {kind}, no regular file: save its content to a file and give that")


_SPECIAL = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """The path, or a way to the same file that libraries in C++ can take, where its bytes are no text.

    A name in an old encoding (Latin-1, from an unpacked archive) is no UTF-8, and they take nothing else. A link in a
    temporary folder leads there meanwhile: to the folder, so that the files beside are found, or to the file, where
    its own name is such a one.
    """
    if _is_text(path):
        yield path
        return
    path = Path(os.path.abspath(path))
    with tempfile.TemporaryDirectory(prefix="drmc-") as folder:
        if _is_text(path.name):
            (Path(folder) / "folder").symlink_to(path.parent, target_is_directory=True)
            yield Path(folder) / "folder" / path.name
        else:
            plain = Path(folder) / os.fspath(path.name).encode("utf-8", "replace").decode("utf-8")
            plain.symlink_to(path)
            yield plain


def _is_text(path: Path | str) -> bool:
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes UTF-8 text atomically, with LF line ends on every platform; what is no text in a path becomes "?"."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "replace"))


def csv_text(head: Sequence[Any], lines: Iterable[Iterable[Any]], separator: str = ",") -> str:
    """A header and lines of cells as CSV text with LF line ends; numbers as the caller has written them, other texts so
    that no spreadsheet computes them (`texts.cell`)."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(map(texts.cell, line) for line in lines)
    return text.getvalue()


def jsonable(value: Any) -> Any:
    """The value in plain JSON types; what JSON cannot say (NaN, infinity) becomes null, arrays become lists."""
    if isinstance(value, dict):
        return {jsonable(str(key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    return str(value).encode("utf-8", "replace").decode("utf-8")  # a path's bytes may be no text


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes indented JSON atomically; NaN and infinity are refused (they are not JSON)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a configuration, a JSON object; InputError says why it is none."""
    check_regular(path)
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: a configuration is a JSON object")
    return values


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
