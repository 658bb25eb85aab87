"""Atomic writes, so that a reader sees the old or the complete new file; reading configurations."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import math
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drmc import locks, texts
from drmc.errors import DiskFullError, InputError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path` with the same file ending; renames it over `path` on success.

    The whole ending is kept (`.nii.gz`), because writers choose the format by it. The temporary file is
    removed if the body raises.
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
    """A temporary file beside a path, locked while it is open, so that no clean-up takes it for a leftover.

    Returns:
        its open file descriptor (None on Windows, where the file is closed) and its path.
    """
    while True:
        handle, name = tempfile.mkstemp(prefix=locks.PART, suffix="-" + path.name, dir=path.parent)
        if not locks.OPEN_FILES_CAN_MOVE:
            os.close(handle)
            return None, Path(name)
        if locks.try_lock(handle) is not False and locks.still_there(handle, Path(name)):
            return handle, Path(name)
        os.close(handle)  # a clean-up has just taken it for a leftover


@contextmanager
def disk_full_as_error(
    output: str | os.PathLike[str], advice: str = "make room, or choose another folder with -o"
) -> Iterator[None]:
    """Turns an OSError of a full disk, quota or size limit into a DiskFullError; other errors pass.

    Args:
        output: the file or folder that is written, for the message.
        advice: what the user can do, for the message.

    Raises:
        DiskFullError: the body met such an error.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, DiskFullError) or not is_full_disk(error):
            raise
        raise DiskFullError(f"{output}: {error.strerror}: {advice}") from None


def is_full_disk(error: BaseException) -> bool:
    """Whether an error is one of a full disk, a quota or a size limit."""
    return isinstance(error, OSError) and error.errno in _FULL


_FULL = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)}


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuses what is neither a file nor a folder, since reading it may block or never end.

    Raises:
        InputError: the path is a named pipe, a socket, a device, or a link that leads back to itself.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{path} is a link that leads back to itself: choose the file itself") from None
        return  # the reader reports that it does not exist
    kind = next((name for test, name in _SPECIAL if test(mode)), None)
    if kind is not None:
        raise InputError(f"{path} is {kind}, not a regular file: save its content to a file and use that")


_SPECIAL = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """Yields a path to the same file that is valid UTF-8, as libraries in C++ need it.

    A name in an old encoding (Latin-1, from an unpacked archive) is not UTF-8. Then a link in a temporary
    folder leads to the folder, so that the files beside it are found, or to the file if its own name is the
    problem.
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
    """Writes UTF-8 text atomically, with LF line ends on every platform; surrogates become "?"."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "replace"))


def csv_text(head: Sequence[Any], lines: Iterable[Iterable[Any]], separator: str = ",") -> str:
    """A header and lines of cells as CSV text with LF line ends.

    Numbers stay as the caller has formatted them; other texts are escaped so that no spreadsheet computes
    them (`texts.cell`).
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(map(texts.cell, line) for line in lines)
    return text.getvalue()


def write_rows(
    path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Writes rows as a CSV table (UTF-8, atomically): texts as they are, numbers in full precision.

    A cell is empty for what is None.
    """

    def cell(value: Any) -> str:
        return value if isinstance(value, str) else "" if value is None else repr(float(value))

    write_text(path, csv_text(columns, ([cell(row[key]) for key in columns] for row in rows)))


def table_rows(path: Path, option: str) -> list[tuple[int, list[str]]]:
    """The rows of a CSV table that hold anything, with the number of the line where each ends.

    As spreadsheets save it: parted by commas, semicolons or tabs, perhaps with a first line `sep=;` that says
    so, with empty lines, and with empty cells behind the last column, which are left out.

    Args:
        path: the table.
        option: the option that named it, for messages.

    Raises:
        InputError: it cannot be read, or is not CSV in UTF-8.
    """
    check_regular(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path of {option}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no UTF-8 text: save the table as CSV in UTF-8") from None
    lines = text.split("\n")
    if lines[0].lower().startswith("sep="):
        lines[0] = ""  # what it says is seen from the names of the columns
    # Spreadsheets of many languages part the cells by semicolons; names of columns hold neither.
    first = next((line for line in lines if line.strip(",;\t ")), "")
    reader = csv.reader(io.StringIO("\n".join(lines), newline=""), delimiter=max(",;\t", key=first.count))
    try:
        rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: is no CSV ({error}): save the table again"
        ) from None
    columns = max((n for _, cells in rows for n, cell in enumerate(cells, 1) if cell.strip()), default=0)
    return [(line, cells[:columns]) for line, cells in rows]


def jsonable(value: Any) -> Any:
    """The value in plain JSON types: arrays become lists; NaN and infinity, not part of JSON, become null."""
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
    return str(value).encode("utf-8", "replace").decode("utf-8")  # a path may contain undecodable bytes


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes indented JSON atomically; ValueError for NaN and infinity, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a configuration, a JSON object.

    Raises:
        InputError: the file cannot be read or is not a JSON object.
    """
    check_regular(path)
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error}): correct it there") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: is not a JSON object: put the configuration between {{ and }}")
    return values


def safe_name(name: str) -> str:
    """A file's name from any text, safe on every file system: the text, or what can stay of it and a hash."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:80]
    if plain != name:
        plain += "-" + hashlib.sha256(name.encode("utf-8")).hexdigest()[:8]
    return plain


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
