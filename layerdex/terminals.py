"""Characters that a terminal does not show but obeys, and how they are written to one.

A text may move the cursor, change what is on the screen (C0 and C1 controls, DEL), reorder what
stands beside it (bidirectional controls), or hide in an id that looks like another (other format
characters, such as a zero-width space or a tag). Files and pipes get them as they are.
"""

from __future__ import annotations

import re
from typing import Any

# Neither ASCII, which is quick to tell, nor a colour or style, as this program's own output has.
_SUSPECT = re.compile(r"\x1b\[[0-9;]*m|[^\t\n -~]")
_UNSAFE = frozenset(
    (
        "Cc",  # controls
        "Cf",  # format characters
        "Cs",  # halves of a surrogate pair
        "Zl",  # the line separator
        "Zp",  # the paragraph separator
    )
)
_JOINERS = "\u200c\u200d"
"""Arabic, Indic scripts and emoji are spelt with these two; after ASCII they only hide."""


def is_terminal(file: Any) -> bool:
    """Return whether a file is a terminal; what only has ``write`` is none."""
    return bool(getattr(file, "isatty", bool)())


def json_line(value: Any, file: Any) -> str:
    """Return a value as a line of JSON, with nothing for a terminal to obey where it is one."""
    import json  # not needed by `--help`, as little as unicodedata below

    line = json.dumps(value, ensure_ascii=False) + "\n"
    return escape_unsafe(line) if is_terminal(file) else line


def is_joiner(text: str, i: int) -> bool:
    """Return whether the character at ``i`` is a joiner that what stands before it may need."""
    return text[i] in _JOINERS and i > 0 and not text[i - 1].isascii()


def escape_unsafe(text: str) -> str:
    r"""Write what a terminal would obey as ``\uXXXX``, which in JSON means the same character.

    Line ends, tabs, colours and styles stay, and joiners where they join.
    """
    return text if text.isprintable() else _SUSPECT.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    from unicodedata import category

    found = match[0]
    if len(found) > 1 or category(found) not in _UNSAFE or is_joiner(match.string, match.start()):
        return found
    units = found.encode("utf-16-be", "surrogatepass").hex()
    return "".join(rf"\u{units[i : i + 4]}" for i in range(0, len(units), 4))
