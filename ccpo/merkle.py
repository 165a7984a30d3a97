"""One number for all that an artefact was made from: the root of a Merkle tree over the names and
hashes of every file that records lead to. Who holds the root elsewhere holds all of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ccpo import files, lineage


def reached(starts: Iterable[Path]) -> dict[Path, str]:
    """sha256 by path of every file and folder that passports and provenance lead to from some, as
    recorded: whether they are so is an audit's question. Files that no record names are hashed.
    """
    hashes: dict[Path, str] = {}
    waiting = [(Path(os.path.normpath(path)), "") for path in starts]
    followed: set[Path] = set()
    while waiting:
        path, recorded = waiting.pop()
        own = lineage.records_of(path)
        if own:
            hashes[path] = own[0][1]
        elif path not in hashes and (recorded or path.exists()):
            hashes[path] = recorded or files.sha256(path)
        for record, _ in own:
            if record not in followed:
                followed.add(record)
                waiting += _named(record)
    return hashes


def _named(record: Path) -> list[tuple[Path, str]]:
    """What a record names, with the hashes it says."""
    if record.name == lineage.PROVENANCE:
        run = lineage.read_provenance(record.parent)
        named = {**run.outputs, **run.inputs}
    else:
        artefact = record.with_name(record.name.removesuffix(".passport.json"))
        named = lineage.read_passport(artefact).inputs
    return [
        (Path(os.path.normpath(record.parent / name)), digest) for name, digest in named.items()
    ]


def root(hashes: Mapping[Path, str], folder: Path) -> str:
    """The root over hashes by path, paths taken from a folder: a leaf is sha256(0, name, 0, hash),
    a node sha256(1, left, right), an odd one goes up as it is; leaves by name. As in RFC 6962, a
    node can pass for no leaf.
    """
    names = {Path(os.path.relpath(p, folder)).as_posix(): h for p, h in hashes.items()}
    level = [
        hashlib.sha256(b"\0" + f"{name}\0{names[name]}".encode()).digest() for name in sorted(names)
    ]
    if not level:
        return hashlib.sha256(b"").hexdigest()
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [
            hashlib.sha256(b"\1" + pair[0] + pair[1]).digest() if len(pair) == 2 else pair[0]
            for pair in pairs
        ]
    return level[0].hex()
