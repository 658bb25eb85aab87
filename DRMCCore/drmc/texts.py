"""What every output says of its use; and text that a file brings (names of segments, paths, header values) on its way
to a terminal or into a table.

A name may hold what a terminal obeys (escape sequences), what a spreadsheet computes (a cell that begins as a formula;
OWASP, CSV injection), or bytes of a path that are no text at all.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

RESEARCH_USE = "Research use only. Not for diagnosis or treatment."

# Control characters (C0, DEL, C1), line and paragraph separators, what reverses the direction of writing, and the
# halves of characters that Python puts where a path's bytes are no UTF-8.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = re.compile(
    r"'*[=+\-@\t\r\n]"
)  # with the apostrophes before it, so that reading takes the same one away


def shown(text: object, keep: str = "") -> str:
    """Any text with a "?" for each character that is not to be seen, but for those to `keep`."""
    return _UNSEEN.sub(lambda found: found[0] if found[0] in keep else "?", str(text))


def cell(value: Any) -> Any:
    """A value as a cell of a table: a text that a spreadsheet would compute gets an apostrophe before it.

    Numbers stay as they are, also those that are written out already.
    """
    if not isinstance(value, str):
        return value
    formula = _FORMULA.match(value) and not _is_number(value)
    return shown("'" + value if formula else value, keep="\t\r\n")  # these the quotes of a table keep


def text_of_cell(value: str) -> str:
    """What `cell` was given, but for the characters that it does not show."""
    return value[1:] if value.startswith("'") and _FORMULA.match(value[1:]) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class ShownStream:
    """A text stream that writes only what is to be seen, and what its encoding has; `raw` is the stream itself."""

    def __init__(self, raw: Any):
        self.raw = raw

    def write(self, text: str) -> int:
        """Writes the text as `shown` has it, with its lines and columns; returns its length."""
        seen = shown(text, keep="\n\t")
        encoding = getattr(self.raw, "encoding", None)
        if encoding:
            seen = seen.encode(encoding, "replace").decode(encoding)
        self.raw.write(seen)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def raw_stream(stream: Any) -> Any:
    """The stream behind a ShownStream, for who writes control characters of its own; any other is itself."""
    return stream.raw if isinstance(stream, ShownStream) else stream


@contextlib.contextmanager
def shown_output() -> Iterator[None]:
    """Standard output and standard error write only what is to be seen meanwhile."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (None if one is None else ShownStream(one) for one in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def one_line(text: object) -> str:
    """Any text on one line."""
    return " ".join(str(text).split())
