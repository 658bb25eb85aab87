"""The sentence on intended use, and text from files made safe to print.

Names of segments, paths and header values may contain what a terminal obeys (escape sequences), what a
spreadsheet computes (a cell that begins as a formula; OWASP, CSV injection), or bytes of a path that are not
text.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

RESEARCH_USE = "Research use only. Not for diagnosis or treatment."

# Control characters (C0, DEL, C1), line and paragraph separators, changes of the writing direction, and the
# surrogates that stand for bytes of a path that are not UTF-8.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# With the apostrophes before it, so that reading removes the one that writing added.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


def shown(text: object, keep: str = "") -> str:
    """Any text with a "?" for each character that is not safe to print, except those in `keep`."""
    return _UNSEEN.sub(lambda found: found[0] if found[0] in keep else "?", str(text))


def cell(value: Any) -> Any:
    """A value as a cell of a table: a text that a spreadsheet would compute is prefixed with an apostrophe.

    Numbers stay as they are, also those that are formatted as text.
    """
    if not isinstance(value, str):
        return value
    formula = _FORMULA.match(value) and not _is_number(value)
    return shown("'" + value if formula else value, keep="\t\r\n")  # CSV quotes these


def text_of_cell(value: str) -> str:
    """The text that `cell` was called with, except for the characters that it replaced."""
    return value[1:] if value.startswith("'") and _FORMULA.match(value[1:]) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class ShownStream:
    """A text stream that writes only what is safe to print and in its encoding; `raw` is the original."""

    def __init__(self, raw: Any):
        self.raw = raw

    def write(self, text: str) -> int:
        """Writes the text through `shown`, keeping line ends and tabs; returns its length."""
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
    """The stream behind a ShownStream, for intended control characters; any other is returned as is."""
    return stream.raw if isinstance(stream, ShownStream) else stream


@contextlib.contextmanager
def shown_output() -> Iterator[None]:
    """A context in which standard output and standard error write only what is safe to print."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (None if one is None else ShownStream(one) for one in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def one_line(text: object) -> str:
    """Any text on one line."""
    return " ".join(str(text).split())
