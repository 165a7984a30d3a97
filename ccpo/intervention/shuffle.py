"""Who reads gets the messages of the next task; what the others say stays as it was."""

from __future__ import annotations

from ccpo.intervention import Reading
from ccpo.intervention.blank import fits as fits
from ccpo.intervention.blank import present as present
from ccpo.intervention.blank import speaks as speaks

VERSION = 1
LABEL = "message of another task"
POLICIES = "trained"


def hears(reading: Reading) -> list[list[str]]:
    """The factual messages of the next task."""
    return [
        [reading.factual[turn][(i + reading.samples) % reading.episodes] for turn in reading.reads]
        for i in range(reading.episodes)
    ]
