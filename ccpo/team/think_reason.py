"""Think-Reason dyad (CCPO v1, arXiv 2603.21563v1, after ReMA, arXiv 2503.09501): a Meta-thinker
instructs, a Reasoner follows and answers.

Departures from the official code: the Meta-thinker is not threatened with punishment for answering;
the leak guard takes every box out of its instruction. Without the Meta-thinker the Reasoner takes
the solo role (officially the bare question with its own system prompt).
"""

from ccpo.team import SOLO, Role, Team, Turn

VERSION = 1

META_THINKER = Role(
    system="You teach a weaker colleague mathematics. Write a high-level plan for the problem. "
    "Do not answer it.",
    user="Question: {question}",
    demo="plan",
    answers=False,
)
REASONER = Role(
    system="Follow the instruction step by step. End with the final answer {form}.",
    user="Question: {question}\nInstruction: {read}",
    demo="conclusion",
    answers=True,
)


def team() -> Team:
    """Turn 0: Meta-thinker (agent 0). Turn 1: Reasoner (agent 1), who reads it."""
    return Team(
        turns=(Turn(0, "meta_thinker"), Turn(1, "reasoner", reads=(0,), alone="solo")),
        roles={"meta_thinker": META_THINKER, "reasoner": REASONER, "solo": SOLO},
    )
