"""Typed, versioned JSON documents: what one stage writes for others is written and read through
one type.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from ccpo import files


class Record(BaseModel):
    """A part of a document: frozen; an unknown key, infinity and NaN are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Document(Record):
    """A whole file. A subclass declares `kind` and `version` as literals with defaults; the version
    is raised whenever the layout or the meaning of a field changes. Several versions in the literal
    are all read, the default is written.
    """

    kind: str
    version: int

    def write(self, path: str | Path) -> None:
        """Writes it as readable JSON, whole or not at all."""
        files.write_json(path, self.model_dump(mode="json"))


D = TypeVar("D", bound=Document)
LISTED = 60  # names that a message can list


def near(word: str, known: Iterable[str]) -> str:
    """What a wrong word may have been meant to be, and what is known, if that can be read."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, 1)
    meant = f"Did you mean '{close[0]}'? " if close else ""
    listed = ", ".join(names) if len(names) <= LISTED else f"{len(names)} names"
    return f"{meant}Known: {listed or 'none'}."


def read(path: str | Path, *types: type[D]) -> D:
    """The document in a file, which is one of `types` by its kind.

    Raises:
        ValueError: the file is missing, is no JSON, is of another kind or version, or holds what
        its type does not allow; names file, place and remedy.
    """
    content = files.read_json(path)
    kind = content.get("kind") if isinstance(content, dict) else None
    known = {str(t.model_fields["kind"].default): t for t in types}
    if kind not in known:
        held = f"a document of kind '{kind}'" if kind else "no document of this project's"
        raise ValueError(
            f"{path} holds {held}; {' or '.join(known)} is read. Remedy: name another file, or "
            f"delete it and run the rule that makes it (snakemake {path})."
        )
    versions = get_args(known[kind].model_fields["version"].annotation)
    if content.get("version") not in versions:
        raise ValueError(
            f"{path} holds {kind} of version {content.get('version')}, this code reads version "
            f"{' or '.join(map(str, versions))}. Remedy: delete it and run the rule that makes it "
            f"(snakemake {path})."
        )
    try:
        return known[kind].model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(
            f"{path}, {place}: {first['msg']} ({error.error_count()} such). Remedy: delete it and "
            f"run the rule that makes it (snakemake {path})."
        ) from None
