"""What the processes of one training began with: a training that is interrupted and goes on with
other inputs is none, and one that goes on with other code says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ccpo import document, lineage
from ccpo.document import Document
from ccpo.source import Source

NAME = "starts.json"


class Starts(Document):
    """In a training's scratch folder: its inputs by hash (but for the config, which its
    checkpoints name), and the code of each process where it was another than before.
    """

    kind: Literal["starts"] = "starts"
    version: Literal[1] = 1
    inputs: dict[str, str]
    sources: tuple[Source, ...]


def started(scratch: Path, begun: lineage.Begun, config: Path) -> list[Source]:
    """Adds a process to those that a training of a config began with; returns the other code that
    was before.

    Raises:
        ValueError: it began with other inputs.
    """
    path = scratch / NAME
    inputs = {p.name: digest for p, digest in begun.hashes.items() if p != config}
    before: tuple[Source, ...] = ()
    # a folder without a checkpoint is one of a training that has done nothing yet
    if path.is_file() and any(scratch.glob("step-*")):
        held = document.read(path, Starts)
        before = held.sources
        for name, digest in held.inputs.items():
            now = inputs.get(name, "none (no input now)")
            if now != digest:
                raise ValueError(
                    f"the training in {scratch} began with {name} of "
                    f"sha256 {digest}, which is {now} now. Remedy: restore it; or delete {scratch} "
                    "to train anew."
                )
    same = before and before[-1].code == begun.source.code
    sources = before if same else (*before, begun.source)
    Starts(inputs=inputs, sources=sources).write(path)
    return [source for source in sources if source.code != begun.source.code]
