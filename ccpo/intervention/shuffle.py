"""Who reads an agent's message gets the one that it wrote for another task, of another truth where
there is one; in a vote its ballot is that of the other task.
"""

from __future__ import annotations

from ccpo.intervention import Material
from ccpo.intervention.blank import agents as agents
from ccpo.intervention.blank import change as change

VERSION = 2
LABEL = "message of another task"
CHANGES = "agent"


def alter(material: Material) -> list[str]:
    """The messages of other tasks."""
    return list(material.foreign)
