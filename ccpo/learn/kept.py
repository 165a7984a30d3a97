"""Weights of a training between its start and its end, kept for probes.

They change nothing: the run's id, its model and its tables are those of a training that keeps none.
What is kept of the share 0.5 of the training are the weights after the first update at which half
of it is done; until the training ends they lie in its scratch folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ccpo import schema
from ccpo.config import share_name
from ccpo.learn.state import State


def reached(keep: Sequence[float], before: float, now: float) -> list[float]:
    """The shares that an update has reached which took the training from `before` to `now`."""
    return [share for share in keep if before < share <= now]


def write(scratch: Path, share: float, state: State) -> None:
    """Keeps the policies as they are, complete or not at all."""
    with schema.new_folder(_folder(scratch, share)) as temporary:
        state.write(temporary)


def refuse_missed(scratch: Path, keep: Sequence[float], done: float) -> None:
    """Refuses to go on with a training that has passed a share without keeping its weights.

    Raises:
        ValueError: so it is; names the share.
    """
    for share in reached(keep, 0.0, done):
        if not _folder(scratch, share).is_dir():
            raise ValueError(
                f"the checkpoint in {scratch} is at {done:.0%} of the training, and the weights at "
                f"{share:.0%}, which a probe asks for, were not kept. Remedy: delete that folder "
                "to start anew, or leave that share out of `probes`."
            )


def publish(scratch: Path, keep: Sequence[float], out: Path) -> list[Path]:
    """Copies what was kept to kept-{share} in the run's folder, each with a manifest; the scratch
    folder has its own until the run is scored.
    """
    folders = []
    for share in keep:
        folder = out / f"kept-{share_name(share)}"
        with schema.new_folder(folder) as temporary:
            shutil.copytree(_folder(scratch, share), temporary, dirs_exist_ok=True)
        schema.write_manifest(folder)
        folders.append(folder)
    return folders


def _folder(scratch: Path, share: float) -> Path:
    return scratch / f"kept-{share_name(share)}"
