"""Every intervention keeps the contract, and does to each shape of team what its words say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from conftest import conforming
from test_play import endpoint

from ccpo import intervention, team
from ccpo.benchmark import Task
from ccpo.config import Protocol
from ccpo.intervention import Material
from ccpo.play import rollout
from ccpo.play.rollout import EvaluationPass, evaluate, foreign_episodes
from ccpo.play.types import AgentEndpoint, Ledger, PlayingTeam
from ccpo.team import Team

TEAMS = {
    "single": team.load("single").team(),
    "dyad": team.load("think_solve").team(),
    "chain": team.load("chain").team(agents=3),
    "trio": team.load("reasoner_actor_verifier").team(),
    "vote": team.load("vote").team(agents=3),
}
MATERIAL = Material(["a", "b"], ["B", "A"], lambda text, share: text[: int(share * len(text))])


@pytest.mark.parametrize("name", intervention.names())
def test_every_intervention_keeps_the_contract(name: str) -> None:
    """Each complaint says what is missing and how to write it; ccpo/intervention/__init__.py is the
    contract.
    """
    module = conforming(intervention, name)
    where = f"ccpo/intervention/{name}.py"
    fitting = {label: made for label, made in TEAMS.items() if module.agents(made)}
    assert fitting, (
        f"{where}: agents() is empty for every team, so it is never played. Remedy: the agents it "
        f"can change, of some of {sorted(TEAMS)}"
    )
    texts = module.alter(MATERIAL)
    assert [type(text) for text in texts] == [str, str], (
        f"{where}: alter() makes {texts} of two messages. Remedy: a text for each"
    )
    for label, made in fitting.items():
        turns = set(range(len(made.turns)))
        for one in intervention.labels(made, name):
            change = intervention.change_of(made, one)
            named = [getattr(change, field) for field in change.__dataclass_fields__]
            assert all(part <= turns for part in named), (
                f"{where}, {label}: {change} names other turns than {sorted(turns)}. Remedy: turns "
                "of the team"
            )
            assert set(intervention.present(made, change)), (
                f"{where}, {label}: nobody is there. Remedy: leave a turn"
            )
            if name != "factual":
                kept = set(intervention.fates(made, change).values()) == {"kept"}
                assert not kept or change.absent, (
                    f"{where}, {label}: {one} changes nothing. Remedy: leave the agent out of "
                    "agents()"
                )


LABELS = {
    "single": {"untrained"},
    "dyad": {
        *("solo.1", "blank.0", "shuffle.0", "truncate.0", "message_only.0"),
        *("swap.0", "swap.1", "untrained"),
    },
    "chain": {
        *("solo.2", "swap.0", "swap.1", "swap.2", "untrained"),
        *(
            f"{name}.{a}"
            for name in ("blank", "shuffle", "truncate", "message_only")
            for a in (0, 1)
        ),
    },
    "vote": {
        "untrained",
        *(f"{name}.{a}" for name in ("solo", "blank", "shuffle", "swap") for a in (0, 1, 2)),
    },
}


@pytest.mark.parametrize("shape", sorted(LABELS))
def test_what_means_something_for_a_team_is_played_for_each_agent(shape: str) -> None:
    every = [name for name in intervention.names() if name != "factual"]
    assert {x for name in every for x in intervention.labels(TEAMS[shape], name)} == LABELS[shape]


def fates(shape: str, label: str) -> str:
    """Initials of what becomes of each turn; a dot where it is absent."""
    made = TEAMS[shape]
    of_turns = intervention.fates(made, intervention.change_of(made, label))
    return "".join(
        of_turns[turn][0] if turn in of_turns else "." for turn in range(len(made.turns))
    )


@pytest.mark.parametrize(
    ("shape", "label", "expected"),
    [
        ("dyad", "solo.1", ".d"),
        ("dyad", "blank.0", "ad"),
        ("dyad", "swap.0", "dd"),
        ("dyad", "swap.1", "kd"),
        ("dyad", "message_only.0", "kd"),
        ("dyad", "untrained", "dd"),
        ("chain", "solo.2", "..d"),
        ("chain", "blank.0", "add"),
        ("chain", "blank.1", "kad"),
        ("chain", "swap.1", "kdd"),
        ("chain", "message_only.0", "kdd"),
        ("chain", "message_only.1", "akd"),
        ("trio", "blank.0", "add"),
        ("trio", "shuffle.1", "kad"),
        ("vote", "solo.1", ".k."),
        ("vote", "blank.1", "kak"),
        ("vote", "swap.2", "kkd"),
    ],
)
def test_only_what_depends_on_the_change_speaks_anew(shape: str, label: str, expected: str) -> None:
    """Drawn, kept, altered: by hand."""
    assert fates(shape, label) == expected
    speaks = [turn for turn, fate in enumerate(expected) if fate == "d"]
    assert intervention.speaks(TEAMS[shape], label) == speaks


def test_the_default_interventions_cost_few_messages_more() -> None:
    """Messages of a task under the shipped protocol `temperatures`' shape of draws: six samples of
    the team as it is and untrained, and the interventions on one agent once. Before there were
    interventions for each agent: 27 of a dyad, 37 of a vote of three.
    """
    protocol = Protocol(name="a")
    messages = {
        shape: 6 * 2 * len(made.turns)
        + sum(
            len(intervention.speaks(made, label))
            for label in protocol.changes(made)
            if label != "untrained"
        )
        for shape, made in TEAMS.items()
    }
    assert messages == {"single": 12, "dyad": 31, "chain": 52, "trio": 52, "vote": 39}


TASKS = [Task("a", "1+1", "2", "number"), Task("b", "2+0", "2", "number")]
TASKS += [Task("c", "2+3", "5", "number")]


@pytest.mark.parametrize(
    ("truths", "samples", "expected"),
    [
        ("225", 1, [2, 2, 0]),
        ("225", 2, [4, 5, 4, 5, 0, 1]),
        ("22", 1, [1, 0]),
        ("2", 1, [0]),
        ("2522", 1, [1, 2, 1, 1]),
    ],
)
def test_a_foreign_message_is_of_a_task_with_another_truth(
    truths: str, samples: int, expected: list[int]
) -> None:
    tasks = [Task(str(i), "?", truth, "number") for i, truth in enumerate(truths)]
    assert foreign_episodes(tasks, samples) == expected


def played(
    shape: str, labels: Sequence[str], script: Any, **params: Any
) -> dict[str, dict[tuple[int, str], str]]:
    """By pass, what each turn says of each task, with a script(prompt, uniform); the untrained
    agents say nothing but "?".
    """
    made = TEAMS[shape]
    endpoints = [endpoint(lambda p, j, u: script(p, u)) for _ in range(made.agents)]
    untrained: list[AgentEndpoint] = [endpoint(lambda p, j, u: "?")] * made.agents
    playing = PlayingTeam(made, endpoints, 1.0, (80,))
    out = {}
    factual: dict[int, list[Any]] = {}
    for label in ("factual", *labels):
        once = EvaluationPass(label, 1, factual, params, untrained)
        rows = evaluate(playing, TASKS, once, [0], Ledger())
        if label == "factual":
            for row in rows:
                factual.setdefault(row["turn"], []).append(row)
        assert all(row["intervention"] == label for row in rows)
        assert all(row["n_completion_tokens"] == 0 for row in rows if row["fate"] != "drawn")
        out[label] = {(row["turn"], row["task_id"]): row["completion"] for row in rows}
    return out


def echo(prompt: str, uniform: float) -> str:
    """What it was asked and has read, and its luck."""
    user = prompt[prompt.index("Problem: ") :]
    return f"<{user.removeprefix('Problem: ')}|{uniform:.3f}>".replace("\n", " ")


def test_a_chain_hears_what_the_words_of_each_intervention_say() -> None:
    labels = ["blank.0", "shuffle.1", "swap.0", "message_only.0", "message_only.1", "solo.2"]
    of = played("chain", labels, echo)
    first, second, last = (of["factual"][turn, "a"] for turn in range(3))
    luck = last[-6:-1]
    assert first.startswith("<1+1|")
    assert second.startswith(f"<1+1 Plan: {first}|")
    assert last.startswith(f"<1+1 Thought: {second}|")
    assert of["blank.0"][0, "a"] == ""
    assert of["blank.0"][1, "a"].startswith("<1+1 Plan: |")
    assert of["blank.0"][2, "a"] == f"<1+1 Thought: {of['blank.0'][1, 'a']}|{luck}>"
    # of task c: b has the truth of a
    assert of["shuffle.1"][1, "a"] == of["factual"][1, "c"]
    assert of["shuffle.1"][2, "a"] == f"<1+1 Thought: {of['factual'][1, 'c']}|{luck}>"
    assert of["swap.0"][0, "a"] == "?"
    assert of["swap.0"][1, "a"].startswith("<1+1 Plan: ?|")
    assert of["message_only.0"][0, "a"] == first
    assert of["message_only.0"][1, "a"].startswith(f"< Plan: {first}|")
    assert of["message_only.1"][0, "a"] == ""
    assert of["message_only.1"][2, "a"] == f"< Thought: {second}|{luck}>"
    assert of["solo.2"] == {(2, t.task_id): of["solo.2"][2, t.task_id] for t in TASKS}
    assert of["solo.2"][2, "a"] == f"<1+1|{luck}>"


def test_a_ballot_is_emptied_exchanged_swapped_or_counted_alone() -> None:
    of = played("vote", ["solo.1", "blank.1", "shuffle.1", "swap.1"], echo)
    own = {key: text for key, text in of["factual"].items() if key[0] != 1}
    assert of["solo.1"] == {k: v for k, v in of["factual"].items() if k[0] == 1}
    for label, ballot in (("blank.1", ""), ("shuffle.1", of["factual"][1, "c"]), ("swap.1", "?")):
        assert of[label] == {**own, **{(1, t.task_id): of[label][1, t.task_id] for t in TASKS}}
        assert of[label][1, "a"] == ballot


@pytest.mark.parametrize(("share", "heard"), [(0.5, "abcd"), (0.25, "ab"), (0.99, "abcdefgh")])
def test_a_message_is_cut_to_a_share_of_its_tokens(share: float, heard: str) -> None:
    """Of nine tokens, rounded down."""

    def script(prompt: str, uniform: float) -> str:
        return prompt.partition("Thought: ")[2] or "abcdefghi"

    of = played("dyad", ["truncate.0"], script, share=share)
    assert of["truncate.0"][0, "a"] == of["truncate.0"][1, "a"] == heard


def test_an_untrained_agent_speaks_with_its_own_endpoint() -> None:
    """Not with that of another agent who is untrained too."""
    made = TEAMS["dyad"]
    untrained = [endpoint(lambda p, j, u, a=a: f"untrained {a}") for a in (0, 1)]
    playing = PlayingTeam(made, [endpoint(lambda p, j, u: "trained")] * 2, 0.0, (80,))
    rows = rollout.evaluate(
        playing, TASKS[:1], EvaluationPass("factual", 1, {}, {}, untrained), [0], Ledger()
    )
    factual = {row["turn"]: [row] for row in rows}
    expected = {
        "swap.0": ["untrained 0", "trained"],
        "swap.1": ["trained", "untrained 1"],
        "untrained": ["untrained 0", "untrained 1"],
    }
    for label, texts in expected.items():
        once = EvaluationPass(label, 1, factual, {}, untrained)
        rows = rollout.evaluate(playing, TASKS[:1], once, [0], Ledger())
        assert [row["completion"] for row in rows] == texts


def test_agents_are_chosen_in_the_protocol() -> None:
    chosen = {"name": "a", "interventions": [{"name": "blank", "agents": [1]}, "untrained"]}
    protocol = Protocol.model_validate(chosen)

    def changes(made: Team) -> list[str]:
        return list(protocol.changes(made))

    assert changes(TEAMS["vote"]) == changes(TEAMS["chain"]) == ["blank.1", "untrained"]
    assert changes(TEAMS["dyad"]) == ["untrained"]
    again = Protocol.model_validate(protocol.model_dump(mode="json"))
    assert again == protocol
    assert again.id == protocol.id
