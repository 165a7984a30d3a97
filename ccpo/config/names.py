"""Names that become folders, files and words of a command line: one pattern for all of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]*[A-Za-z0-9_+-])?")
LABEL = re.compile(rf"{NAME.pattern}(?:[,=]+{NAME.pattern})*")
LONGEST_NAME = 64  # characters, of which each is a byte
# a file system's 255 bytes, less what is put before and after a folder's name for logs, passports
# and unfinished files
LONGEST_FOLDER = 200


def check_name(kind: str, name: object) -> str:
    """A name that a person gave.

    Raises:
        ValueError: it does not fit paths and shells; says what is wrong, and a name that fits.
    """
    if not isinstance(name, str):
        raise ValueError(
            f"the name of {kind} {name!r} is read as {type(name).__name__}, not as text. "
            "Remedy: put it in quotes"
        )
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{kind} {name!r} is no name that fits paths and shells: {_fault(name)}. A name has "
            "letters a to z, digits, and . _ + - between them. "
            f"Remedy: name it as '{_mended(name)}'"
        )
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"{kind} '{name}' has a name of {len(name)} characters; folders are named by it, so "
            f"it has at most {LONGEST_NAME}. Remedy: shorten it"
        )
    return name


def _fault(name: str) -> str:
    if not name:
        return "it is empty"
    for sign in name:
        if not re.fullmatch(r"[A-Za-z0-9._+-]", sign):
            return f"it has {sign!r} ({unicodedata.name(sign, f'U+{ord(sign):04X}')})"
    if name[0] in "._+-":
        return f"it begins with {name[0]!r}"
    return f"it ends with {name[-1]!r}"


def _mended(name: str) -> str:
    """A name like it that fits."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Za-z0-9._+-]+", "-", plain).strip("._+-")
    return words[:LONGEST_NAME].strip("._+-") or "a1"


def check_label(label: str) -> str:
    """A condition's label, which may be made of values of axes.

    Raises:
        ValueError: it does not fit paths and shells.
    """
    if LABEL.fullmatch(label) and len(label) <= LONGEST_FOLDER:
        return label
    fault = "it is too long" if LABEL.fullmatch(label) else "it does not fit paths and shells"
    raise ValueError(
        f"condition label {label!r}, made of the values of the grid's axes: {fault}. Remedy: "
        "name these conditions in grid.condition instead"
    )


def check_folder(what: str, name: str) -> str:
    """A folder's name that is made of several others.

    Raises:
        ValueError: it is too long for a file system.
    """
    if len(name.encode()) > LONGEST_FOLDER:
        raise ValueError(
            f"{what} '{name}' is a folder's name of {len(name.encode())} bytes; at most "
            f"{LONGEST_FOLDER} fit a file system and what is put around it. Remedy: shorten the "
            "names of models"
        )
    return name


def check_case(kind: str, names: Iterable[str]) -> None:
    """Names that some file systems hold for one.

    Raises:
        ValueError: two names differ in upper and lower case alone.
    """
    first: dict[str, str] = {}
    for name in names:
        twin = first.setdefault(name.casefold(), name)
        if twin != name:
            raise ValueError(
                f"{kind} '{twin}' and '{name}' differ in upper and lower case alone, and are one "
                "on some file systems. Remedy: rename one"
            )
