"""Rollouts with a scripted engine, the reference engine against transformers, and the verifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import conforming

from ccpo import benchmark, team
from ccpo.benchmark import Task
from ccpo.grade import process, verifier
from ccpo.learn import train as training
from ccpo.models import policy
from ccpo.play.engine import SamplingParams
from ccpo.play.engine.hf import HF
from ccpo.play.engine.scripted import Scripted
from ccpo.play.rollout import EvaluationPass, evaluate, play
from ccpo.play.types import AgentEndpoint, Ledger, PlayingTeam
from ccpo.team import Team
from ccpo.tree import Plan, Removal


class Letters:
    """A tokenizer of characters, for scripts."""

    is_fast = True
    all_special_ids = ()
    added_tokens_decoder: ClassVar[dict[int, object]] = {}
    chat_template = ""

    def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> str:
        return "".join(m["content"] for m in messages)

    def __call__(self, text: str, **_: object) -> dict[str, list[Any]]:
        places = [(i, i + 1) for i in range(len(text))]
        return {"input_ids": [ord(c) for c in text], "offset_mapping": places}

    def decode(self, ids: list[int], **_: object) -> str:
        return "".join(map(chr, ids))


def endpoint(script: Any) -> AgentEndpoint:
    return AgentEndpoint(
        Scripted(lambda p, j, u: [ord(c) for c in script("".join(map(chr, p)), j, u)]), Letters()
    )


TASKS = [Task("a", "1+1", "2", "number"), Task("b", "2+3", "5", "number")]


def test_a_dyad_is_played_and_scored_as_scripted() -> None:
    """The Thinker hints on even samples only; the Solver answers from a hint, alone it always says
    2.
    """

    def thinker(prompt: str, j: int, u: float) -> str:
        return f"hint {'2' if '1+1' in prompt else '5'}\\boxed{{9}}" if j % 2 == 0 else "nothing"

    def solver(prompt: str, j: int, u: float) -> str:
        if "Thought" not in prompt:
            return "\\boxed{2}"
        assert "boxed{9}" not in prompt  # the guard took the Thinker's box out
        return f"\\boxed{{{prompt.split('hint ')[1][0]}}}" if "hint" in prompt else "dunno"

    ledger = Ledger()
    plan = Plan((4, 2), (Removal(0, 3),))
    played = play(
        plan,
        TASKS,
        PlayingTeam(
            team.load("think_solve").team(), [endpoint(thinker), endpoint(solver)], 1.0, (40, 40)
        ),
        [0],
        ledger,
    )
    tree = played.tree
    thoughts = tree.factual & (tree.agent == 0)
    assert tree.reward[thoughts].tolist() == [1, 0, 1, 0] * 2
    assert tree.n_leaves[thoughts].tolist() == [2] * 8
    solo = tree.removed == 0
    assert tree.reward[solo].tolist() == [1, 1, 1, 0, 0, 0]
    assert (tree.agent[solo] == 1).all()
    assert tree.answer[tree.factual & (tree.agent == 1)].tolist() == [0, 0, -1, -1] * 4
    assert ledger.counts[1, "rollout"]["evaluator_calls"] == 16
    assert ledger.counts[1, "removal-0"]["evaluator_calls"] == 6
    assert ledger.counts[0, "rollout"]["evaluator_calls"] == 0
    replies = [m for m, k in zip(played.messages, thoughts, strict=True) if k]
    assert ledger.counts[0, "rollout"]["generated_tokens"] == sum(len(m.text) for m in replies)


@pytest.mark.parametrize(
    ("choice", "read"),
    [("hidden", ["plan", ""]), ("read", ["<think>no</think> plan", "<think> so"])],
)
def test_what_a_partner_reads_of_thinking_is_the_teams_choice(choice: Any, read: list[str]) -> None:
    """A finished block, and one that was never closed and stands first."""
    thoughts = iter(["<think>no</think> plan", "<think> so"])
    seen: list[str] = []

    def solver(prompt: str, j: int, u: float) -> str:
        seen.append(prompt.split("Thought: ")[1])
        return "\\boxed{2}"

    dyad = replace(team.load("think_solve").team(), thinking=choice)
    endpoints = [endpoint(lambda p, j, u: next(thoughts)), endpoint(solver)]
    play(Plan((2, 1)), TASKS[:1], PlayingTeam(dyad, endpoints, 1.0, (40,)), [0], Ledger())
    assert seen == read


def test_a_vote_is_decided_by_the_majority_and_abstentions_do_not_count() -> None:
    replies = iter(["\\boxed{2}", "\\boxed{7}", "no", "\\boxed{2}", "\\boxed{2}", "\\boxed{7}"])
    voters = [endpoint(lambda p, j, u: next(replies)) for _ in range(3)]
    played = play(
        Plan((2, 1, 1)),
        TASKS[:1],
        PlayingTeam(team.load("vote").team(), voters, 1, (20,)),
        [0],
        Ledger(),
    )
    # breadth first: voter 0 says 2, 7; voter 1 says nothing, 2; voter 2 says 2, 7 in the two
    # episodes
    leaves = played.tree.leaf
    assert played.tree.reward[leaves].tolist() == [1, 0]


def test_interventions_change_what_the_solver_hears() -> None:
    heard: list[str] = []

    def solver(prompt: str, j: int, u: float) -> str:
        heard.append(prompt.split("Thought: ")[1] if "Thought: " in prompt else "ALONE")
        return "\\boxed{2}"

    endpoints = [endpoint(lambda p, j, u: "about " + p[-3:]), endpoint(solver)]
    dyad = PlayingTeam(team.load("think_solve").team(), endpoints, 0.0, (20,))
    factual = evaluate(dyad, TASKS, EvaluationPass("factual", 1), [0], Ledger())
    messages = {t: [r for r in factual if r["turn"] == t] for t in (0, 1)}
    for kind in ("blank.0", "shuffle.0", "solo.1"):
        rows = evaluate(dyad, TASKS, EvaluationPass(kind, 1, messages), [0], Ledger())
        assert [r["turn"] for r in rows if r["fate"] == "drawn"] == [1, 1]
    assert heard == ["about 1+1", "about 2+3", "", "", "about 2+3", "about 1+1", "ALONE", "ALONE"]


def test_the_short_cut_for_whole_numbers_says_what_math_verify_says() -> None:
    from math_verify import parse, verify

    rng = np.random.default_rng(0)
    for a, b in rng.integers(-30, 30, (200, 2)).tolist():
        slow = verify(parse(f"\\boxed{{{b}}}"), parse(f"\\boxed{{{a}}}"))
        assert verifier.equal(str(a), str(b), "number") == slow == (a == b)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind of answer 'colour'"):
        verifier.verify("\\boxed{red}", "red", "colour")


@pytest.mark.parametrize("name", benchmark.names())
def test_every_benchmark_keeps_the_contract(name: str) -> None:
    """Each complaint says what is missing and how to write it; ccpo/benchmark/__init__.py is the
    contract.
    """
    module = conforming(benchmark, name)
    where = f"ccpo/benchmark/{name}.py"
    assert module.DEFECTS, f'{where}: DEFECTS is empty. Remedy: DEFECTS = "None known."'
    assert len(module.EXAMPLES) >= 3, (
        f"{where}: {len(module.EXAMPLES)} EXAMPLES. Remedy: three or more (completion, truth, "
        "kind, accepted)"
    )
    for text, truth, kind, correct in module.EXAMPLES:
        accepted = verifier.verify(text, truth, kind).correct
        assert accepted is correct, (
            f"{where}: EXAMPLES say that {text!r} against {truth!r} is accepted: {correct}; the "
            f"verifier says {accepted}. Remedy: mend the example, or the kind '{kind}'"
        )
    kind = module.EXAMPLES[0][2]
    demos = module.demos(2)
    assert len(demos) == 2, f"{where}: demos(2) gives {len(demos)}. Remedy: as many as asked for"
    for demo in demos:
        truth = verifier.extract(demo.solution, kind)
        assert truth is not None, (
            f"{where}: the demonstrated solution {demo.solution!r} holds no answer of kind "
            f"'{kind}'. Remedy: one in the form that FORM asks for"
        )
        # A program is no truth; test_code_benchmarks.py runs those of the demonstrations.
        agrees = kind == "code" or verifier.verify(demo.conclusion, truth, kind).correct
        assert agrees, (
            f"{where}: the demonstrated conclusion {demo.conclusion!r} does not answer {truth!r}, "
            "as the solution does. Remedy: demonstrations that are right by default"
        )
        assert verifier.extract(demo.plan, kind) is None, (
            f"{where}: the demonstrated plan {demo.plan!r} gives an answer away. Remedy: stop "
            "before the answer"
        )


def test_arithmetic_is_right_and_its_splits_are_disjoint() -> None:
    module = benchmark.load("arithmetic")
    train, test = (
        module.tasks(s, {}, operations=3, n_train=500, n_test=200) for s in ("train", "test")
    )
    for task in train + test:
        assert int(task.truth) == eval(task.question) >= 0
    assert not {t.question for t in train} & {t.question for t in test}
    assert len({t.task_id for t in train}) == 500
    with pytest.raises(ValueError, match="at most"):
        module.tasks("train", {}, operations=1, n_train=100_000)


def test_gsm8k_reads_the_published_answers(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"question": "Q?", "answer": "Work.\\n#### 1,234"}\n')
    assert benchmark.load("gsm8k").tasks("test", {"test": tmp_path / "x.jsonl"}) == [
        Task("test-0", "Q?", "1234", "number")
    ]


@pytest.mark.parametrize("name", team.names())
def test_every_team_keeps_the_contract(name: str) -> None:
    """Each complaint says what is missing and how to write it; ccpo/team/__init__.py is the
    contract.
    """
    module = conforming(team, name)
    where = f"ccpo/team/{name}.py"
    built = module.team()
    assert isinstance(built, Team), (
        f"{where}: team() gives {built!r}. Remedy: a ccpo.team.Team(turns=..., roles=...)"
    )
    agents = {turn.agent for turn in built.turns}
    assert agents == set(range(built.agents)), (
        f"{where}: its turns are written by the agents {sorted(agents)}. Remedy: number them from "
        "0, without a gap"
    )
    everybody = range(len(built.turns))
    voters = everybody if built.answer == "vote" else everybody[-1:]
    for turn in voters:
        role = built.turns[turn].role
        assert built.role(turn, everybody).answers, (
            f"{where}: turn {turn} gives the team's answer, and its role '{role}' has none. "
            "Remedy: answers=True, and {form} in its system prompt"
        )
    for label, role in built.roles.items():
        assert "{question}" in role.user, (
            f"{where}: the prompt of role '{label}' does not hold the question. Remedy: "
            "{question} in its user prompt"
        )
        assert role.answers == ("{form}" in role.system), (
            f"{where}: role '{label}' has answers={role.answers}, and its system prompt says "
            f"otherwise. Remedy: {{form}} in the prompt of a role that answers, and only there"
        )
    for turn in built.turns:
        reads = "{read}" in built.roles[turn.role].user
        assert reads == bool(turn.reads), (
            f"{where}: a turn in role '{turn.role}' reads {list(turn.reads)}, and the prompt shows "
            f"{'what is read' if reads else 'nothing of it'}. Remedy: {{read}} in the prompt of a "
            "role that reads, and only there"
        )


def test_late_verdicts_are_counted_and_too_many_stop_a_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every third verdict is not reached: counted as wrong in the tree, as late in the ledger."""
    calls = 0

    def equal(*_: object) -> bool:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise process.Late("busy")
        return True

    monkeypatch.setattr(verifier.verify, "__defaults__", (0.0, equal))
    ledger = Ledger()
    endpoints = [endpoint(lambda p, j, u: "\\boxed{2}")]
    playing = PlayingTeam(team.load("single").team(), endpoints, 1.0, (40,))
    played = play(Plan((12,)), TASKS, playing, [0], ledger)
    assert ledger.late == 8
    assert played.tree.reward.sum() == 16
    assert ledger.total("evaluator_calls") == 24
    training.refuse_late(5, 24, 3)
    training.refuse_late(15, 1000, 3)
    for late, verdicts in ((6, 24), (16, 1000)):
        with pytest.raises(ValueError, match=rf"update 3: {late} of .* not reached.*Remedy"):
            training.refuse_late(late, verdicts, 3)


def test_the_guard_takes_out_every_box() -> None:
    for thought in (
        "a \\boxed{7}.",
        "\\boxed{\\frac{1}{2}} b",
        "$\\boxed{7}$ mid \\boxed {8}",
        "\\boxed{7",
    ):
        assert "7" not in team.guard(thought)
        assert "frac" not in team.guard(thought)
    assert team.guard("no box") == "no box"


@pytest.fixture
def loaded(tiny: Path) -> tuple[Any, Any]:
    return policy.load(tiny)


def test_greedy_equals_transformers(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    prompts = [tokenizer.encode("7-1+9"), tokenizer.encode("3+2"), tokenizer.encode("7-1+9")]
    ours = HF(model, [tokenizer.eos_token_id]).generate(prompts, 1, SamplingParams(0.0, 12), [0])
    for prompt, [result] in zip(prompts, ours, strict=True):
        with torch.no_grad():
            theirs = model.generate(
                torch.tensor([prompt]),
                max_new_tokens=12,
                do_sample=False,
                attention_mask=torch.ones(1, len(prompt)),
            )
        assert result.token_ids == theirs[0, len(prompt) :].tolist()


def test_sampled_log_probs_are_the_trainers_and_draws_follow_the_distribution(
    loaded: tuple[Any, Any],
) -> None:
    model, tokenizer = loaded
    engine = HF(model, [tokenizer.eos_token_id], budget=700)
    prompt = tokenizer.encode("3+2")
    [result] = engine.generate([prompt], 4000, SamplingParams(0.7, 1), [1])
    with torch.no_grad():
        p = torch.softmax(model(torch.tensor([prompt])).logits[0, -1] / 0.7, -1).numpy()
    counts = np.bincount([c.token_ids[0] for c in result], minlength=len(p)) / 4000
    assert np.abs(counts - p).max() < 4 * np.sqrt(p.max() / 4000)
    many = engine.generate([prompt, tokenizer.encode("1-1+8")], 8, SamplingParams(0.7, 10), [2])
    prompts = [prompt] * 8 + [tokenizer.encode("1-1+8")] * 8
    flat = [c for row in many for c in row]
    with torch.no_grad():
        logps, mask, entropy = policy.completion_logprobs(
            model, prompts, [c.token_ids for c in flat], 0.7
        )
    for row, m, c in zip(logps, mask, flat, strict=True):
        assert row[m].numpy() == pytest.approx(c.logprobs, abs=1e-4)
    assert (entropy[mask] >= 0).all()


def test_draws_do_not_depend_on_the_budget(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    prompts = [tokenizer.encode(t) for t in ("1+1", "9-3+2", "4")]
    a, b = (
        HF(model, [tokenizer.eos_token_id], budget=k).generate(
            prompts, 4, SamplingParams(1.0, 8), [5]
        )
        for k in (10**6, 60)
    )
    assert [[c.token_ids for c in r] for r in a] == [[c.token_ids for c in r] for r in b]


def test_a_prompt_that_does_not_fit_is_refused(loaded: tuple[Any, Any]) -> None:
    model, _ = loaded
    with pytest.raises(ValueError, match=r"prompt 0 has 250 tokens; with 12 to generate"):
        HF(model, [0]).generate([[5] * 250], 1, SamplingParams(1.0, 12), [0])


def test_a_trio_is_played_as_a_tree_and_the_verifier_reads_both() -> None:
    """[2, 2, 2]: the Verifier is right exactly where the Reasoner's first and the Actor's second
    sample stand before it.
    """

    def says(name: str) -> Any:
        return lambda p, j, u: f"{name}{j}"

    def verifies(prompt: str, j: int, u: float) -> str:
        assert "reason" in prompt.split("Work: ")[1]
        return "\\boxed{2}" if "reason0\n\nact1" in prompt else "\\boxed{3}"

    endpoints = [endpoint(says("reason")), endpoint(says("act")), endpoint(verifies)]
    played = play(
        Plan((2, 2, 2)),
        TASKS[:1],
        PlayingTeam(team.load("reasoner_actor_verifier").team(), endpoints, 1.0, (40,)),
        [0],
        Ledger(),
    )
    tree = played.tree
    assert [int((tree.turn == t).sum()) for t in range(3)] == [2, 4, 8]
    assert tree.reward[tree.turn == 0].tolist() == [0.5, 0]
    assert tree.reward[tree.turn == 1].tolist() == [0, 1, 0, 0]


def test_a_chain_of_two_is_the_think_solve_dyad() -> None:
    chain = team.load("chain").team(agents=2)
    dyad = team.load("think_solve").team()
    assert chain.turns == dyad.turns
    assert dyad.roles.items() <= chain.roles.items()
    assert [t.reads for t in team.load("chain").team(agents=4).turns] == [(), (0,), (1,), (2,)]
    with pytest.raises(ValueError, match="agents=1"):
        team.load("chain").team(agents=1)
