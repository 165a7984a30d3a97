"""Reasoner-Actor-Verifier trio (C3, arXiv 2603.06859v2): advice, work without the final answer, and
a cross-check that answers.

The paper declares that the Verifier depends on the Actor alone, while its serialisation shows it
the Reasoner's message too; here it reads both, since a replay freezes the whole transcript.
Departures: the leak guard takes every box out of what is read.
"""

from ccpo.team import Role, Team, Turn
from ccpo.team.reasoner_actor import REASONER

VERSION = 1

ACTOR = Role(
    system="Carry the guidance out, step by step. Leave the final answer to the verifier.",
    user="Problem: {question}\nGuidance: {read}",
    demo="plan",
    answers=False,
)
VERIFIER = Role(
    system="Check the work step by step. End with the final answer {form}.",
    user="Problem: {question}\nWork: {read}",
    demo="conclusion",
    answers=True,
)


def team() -> Team:
    """Turn 0: Reasoner (agent 0). Turn 1: Actor (agent 1), who reads it. Turn 2: Verifier (agent
    2), who reads both.
    """
    return Team(
        turns=(
            Turn(0, "reasoner"),
            Turn(1, "actor", reads=(0,)),
            Turn(2, "verifier", reads=(0, 1)),
        ),
        roles={"reasoner": REASONER, "actor": ACTOR, "verifier": VERIFIER},
    )
