"""Text from outside (an implementation's name, its message) made fit to be shown: nothing in it is invisible."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 4000  # characters of one message
LINE_ENDS = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")


def visible(text: object, one_line: bool = False) -> str:
    r"""`text` with control characters as pictures, and what reorders text or is no character as U+FFFD.

    >>> visible("a\x1b[31mb\u202ec")
    'a␛[31mb�c'
    """
    words = LINE_ENDS.sub(" " if one_line else "\n", str(text))
    shown = "".join(map(_shown, words[:LONGEST]))
    return shown if len(words) <= LONGEST else shown + " …"


def _shown(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return " " if unicodedata.category(character) == "Zs" else "\ufffd"
