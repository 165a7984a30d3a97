"""Every intervention keeps the contract, and does to each shape of team what its words say."""

from __future__ import annotations

import pytest
from conftest import conforming

from ccpo import intervention, team
from ccpo.intervention import Reading
from ccpo.team import Team

TEAMS = {
    "single": team.load("single").team(),
    "dyad": team.load("think_solve").team(),
    "chain": team.load("chain").team(agents=3),
    "vote": team.load("vote").team(agents=3),
}
PASS = {0: ["a0", "b0"], 1: ["a1", "b1"], 2: ["a2", "b2"]}
FACTUAL = {0: ["A0", "B0"], 1: ["A1", "B1"], 2: ["A2", "B2"]}


@pytest.mark.parametrize("name", intervention.names())
def test_every_intervention_keeps_the_contract(name: str) -> None:
    """Each complaint says what is missing and how to write it; ccpo/intervention/__init__.py is the
    contract.
    """
    module = conforming(intervention, name)
    where = f"ccpo/intervention/{name}.py"
    fitting = {label: made for label, made in TEAMS.items() if module.fits(made)}
    assert fitting, (
        f"{where}: fits() is False for every team, so it is never played. Remedy: True for some "
        f"of {sorted(TEAMS)}"
    )
    for label, made in fitting.items():
        present = module.present(made)
        speaks = list(module.speaks(made))
        assert set(speaks) <= set(present), (
            f"{where}, {label}: turns {speaks} speak, {present} are present. Remedy: only who is "
            "present"
        )
        assert speaks == sorted(speaks), (
            f"{where}, {label}: turns speak as {speaks}. Remedy: in the order of the team"
        )
        for turn in speaks:
            reads = [r for r in made.turns[turn].reads if r in present]
            texts = module.hears(Reading(reads, PASS, FACTUAL, 2, 1))
            shape = [len(row) for row in texts]
            assert shape == [len(reads)] * 2, (
                f"{where}, {label}: turn {turn} reads {reads}, hears() gives {shape}. Remedy: a "
                "text each"
            )


@pytest.mark.parametrize(
    ("name", "label", "speaks", "texts"),
    [
        ("factual", "chain", (0, 1, 2), [["a1"], ["b1"]]),
        ("untrained", "dyad", (0, 1), [["a0"], ["b0"]]),
        ("solo", "chain", (2,), [[], []]),
        ("solo", "vote", (2,), [[], []]),
        ("blank", "dyad", (1,), [[""], [""]]),
        ("shuffle", "dyad", (1,), [["B0"], ["A0"]]),
    ],
)
def test_who_speaks_and_what_the_last_turn_hears(
    name: str, label: str, speaks: tuple[int, ...], texts: list[list[str]]
) -> None:
    module = intervention.load(name)
    made = TEAMS[label]
    assert tuple(module.speaks(made)) == speaks
    reads = [r for r in made.turns[speaks[-1]].reads if r in module.present(made)]
    assert module.hears(Reading(reads[-1:], PASS, FACTUAL, 2, 1)) == texts


def test_two_samples_of_a_task_are_shuffled_with_those_of_the_next() -> None:
    factual = {0: ["a", "a", "b", "b", "c", "c"]}
    assert intervention.load("shuffle").hears(Reading([0], {}, factual, 6, 2)) == [
        ["b"],
        ["b"],
        ["c"],
        ["c"],
        ["a"],
        ["a"],
    ]


def test_what_means_nothing_for_a_team_is_not_played() -> None:
    def fitting(made: Team) -> set[str]:
        return {name for name in intervention.names() if intervention.load(name).fits(made)}

    assert fitting(TEAMS["single"]) == {"factual", "untrained"}
    assert fitting(TEAMS["vote"]) == {"factual", "untrained", "solo"}
    assert fitting(TEAMS["dyad"]) == fitting(TEAMS["chain"]) == set(intervention.names())
