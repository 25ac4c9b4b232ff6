"""What a person may copy to a shell, and lines for a terminal: each stays one line, whatever bytes a path has."""

import re
import shlex

from tracestrip.observer.wire import raw


def quoted(word: str) -> str:
    """One word for a shell; as $'…' (bash, ksh, zsh) where it has what a terminal cannot show."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + shown(word.replace("\\", "\\\\").replace("'", "\\'")) + "'"


def shown(line: str) -> str:
    r"""The same for a terminal: control characters, and bytes that are not UTF-8, as \xHH."""
    return "".join(character if character.isprintable() else _escaped(character) for character in line)


def literal(path: str) -> str:
    """The pattern that *path* alone matches, for `patterns.matches`."""
    return re.sub(r"[*?[]", r"[\g<0>]", path)


def _escaped(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in raw(character))
