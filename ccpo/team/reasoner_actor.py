"""Reasoner-Actor dyad (C3, arXiv 2603.06859): the Reasoner advises on the critical next step, the
Actor carries it out and answers.

Departures from the official code: its prompts speak of reflection data and an action history that a
two-turn episode never has, and are left out; an earlier message passes the leak guard
(ccpo.team.guard). Without the Reasoner the Actor keeps its role and reads nothing, as in the
official solo role file, so that leaving the Reasoner out changes no other word of the prompt.
"""

from ccpo.team import Role, Team, Turn

VERSION = 1

REASONER = Role(
    system="Study the problem, decide on the critical next step, and give short guidance for it. "
    "Give no answer.",
    user="Problem: {question}",
    demo="plan",
    answers=False,
)
ACTOR = Role(
    system="Carry the guidance out. End with the final answer {form}.",
    user="Problem: {question}\nGuidance: {read}",
    demo="conclusion",
    answers=True,
)


def team() -> Team:
    """Turn 0: Reasoner (agent 0). Turn 1: Actor (agent 1), who reads it."""
    return Team(
        turns=(Turn(0, "reasoner"), Turn(1, "actor", reads=(0,))),
        roles={"reasoner": REASONER, "actor": ACTOR},
    )
