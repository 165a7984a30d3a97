"""What agents act with: adapters over one frozen model; models of several families in one team."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SPEC, apart, make_files, make_protocol, run_data, sources
from safetensors.torch import load_file
from test_ranks import together

from ccpo import lineage, schema
from ccpo.config import RunConfig, WarmStart, canonical, read_protocol, tasks_slug
from ccpo.evaluate import evaluate
from ccpo.learn import optimisers
from ccpo.learn import train as training
from ccpo.models import policy, prepare
from ccpo.operate import forecast
from ccpo.play.engine import SamplingParams
from ccpo.play.rollout import play
from ccpo.play.types import Ledger, PlayingTeam
from ccpo.team import guard

LORA: dict[str, Any] = {"policy": "lora", "lora": {"rank": 2}, "train": {"lr": 1e-2}}


OTHER: dict[str, Any] = {
    **SPEC,
    "teams": ["think_solve", "single"],
    "hidden": 24,
    "layers": 2,
    "tokens": ["10", "11", "+2", "=1"],
}
MIXED = [{"name": "small", "spec": SPEC}, {"name": "big", "spec": OTHER}]


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untaught model of another size, with another vocabulary."""
    torch.manual_seed(1)
    spec = WarmStart.model_validate(OTHER)
    tokenizer = prepare.tiny_tokenizer(prepare.roles_of(spec.teams), tokens=spec.tokens)
    folder = tmp_path_factory.mktemp("models") / "other"
    policy.save(prepare.tiny_model(spec, tokenizer), tokenizer, folder)
    return folder


def mixed(folder: Path, models: list[Path], **over: Any) -> dict[str, Any]:
    """Inputs of a run whose agents start from two models."""
    files = make_files(folder, models[0], **over)
    run = RunConfig.model_validate(run_data(model=MIXED, **over))
    schema.write_text(files["config"], canonical(run.model_dump(mode="json")))
    return {**files, "model": models}


def updated(files: dict[str, Path], updates: int = 1, **over: Any) -> training.State:
    run = RunConfig.model_validate(run_data(**over))
    state = training.State(run, files["model"])
    pool = training.read_tasks(files["tasks"], "train")
    for _ in range(updates):
        training.update(run, run.build_team(), pool, state)
    return state


def interrupted_equals_whole(files: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trains once as a whole, once with a signal after the second update; the same bytes? Returns
    the run's folder.
    """
    plain = {k: files[k] for k in ("config", "tasks", "model")}
    training.train(**plain, scratch=files["scratch"].with_name("other"), out=files["out"])
    again = files["out"].with_name("again")
    update = training.update

    def stopping(run: RunConfig, team: Any, pool: Any, state: training.State, *more: Any) -> Ledger:
        done = update(run, team, pool, state, *more)
        if state.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(training, "update", stopping)
        with pytest.raises(training.Interrupted):
            training.train(**plain, scratch=files["scratch"], out=again)
    training.train(**plain, scratch=files["scratch"], out=again)
    for name in ("train.parquet", "credit.parquet", "ledger.parquet"):
        assert (files["out"] / name).read_bytes() == (again / name).read_bytes(), name
    assert schema.sha256(files["out"] / "model") == schema.sha256(again / "model")
    return files["out"]


@pytest.mark.usefixtures("lively")
@pytest.mark.parametrize("over", [{"policy": "separate"}, LORA], ids=["separate", "lora"])
def test_simultaneous_equals_each_agent_updated_by_itself_on_the_same_messages(
    files: dict[str, Path], over: dict[str, Any]
) -> None:
    """Bit for bit, gradient norms too: agents' policies share only the messages, which are drawn
    before anybody learns.
    """

    def learnt(updates: int, **how: Any) -> tuple[list[dict[str, torch.Tensor]], list[float]]:
        train = {"minibatches": 1, "lr": 1e-2, "grad_clip": 1e-3, **how}
        state = updated(files, updates, **{**over, "train": train})
        weights = [
            {name: w.detach().clone() for name, w in policy.trainable(state.activate(i)).items()}
            for i in (0, 1)
        ]
        return weights, [row["grad_norm"] for row in state.rows["train"]]

    start, _ = learnt(0)
    (together, both) = learnt(1, order="simultaneous")
    (first, one) = learnt(1, start=0)
    (second, other) = learnt(1, start=1)
    assert both == [one[0], other[1]]
    assert (one[1], other[0]) == (0.0, 0.0)
    for index, alone, rested in ((0, first, second), (1, second, first)):
        assert any(not torch.equal(together[index][name], w) for name, w in start[index].items())
        for name, weight in start[index].items():
            assert torch.equal(together[index][name], alone[index][name]), name
            assert torch.equal(rested[index][name], weight), name


@pytest.mark.usefixtures("lively")
def test_an_update_moves_the_learners_adapter_and_nothing_else(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = updated(files, 0, **LORA).models[0].state_dict()
    graded = set[str]()

    def noting(
        self: optimisers.Plain, lr: float, step: Callable[..., float] = optimisers.Plain.step
    ) -> float:
        graded.update(
            name for name, weight in self.model.named_parameters() if weight.grad is not None
        )
        return step(self, lr)

    monkeypatch.setattr(optimisers.Plain, "step", noting)
    state = updated(files, 1, **LORA)
    assert state.models[0] is state.models[1]
    after = state.models[0].state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    adapter = set(policy.trainable(state.activate(0)))
    assert adapter.isdisjoint(policy.trainable(state.activate(1)))
    assert moved == adapter
    assert graded == adapter
    start = policy.load(files["model"])[0].state_dict()
    for name, value in start.items():
        assert torch.equal(value, after[name.replace("_proj.", "_proj.base_layer.")]), name


@pytest.mark.usefixtures("lively")
def test_agents_speak_with_their_own_adapters_and_merged_says_the_same(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """Log-probs of the trainer, the engine, the merged folder and peft's own reading of the
    adapter's folder: within 1e-5 (float32).
    """
    from peft import PeftModel

    state = updated(files, 3, **{**LORA, "train": {"lr": 1e-2, "order": "simultaneous"}})
    state.write(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "adapter0",
        "adapter1",
        "policy0",
        "policy1",
    ]
    written = schema.read_json(tmp_path / "model/adapter1/adapter_config.json")
    # the same bytes from every process
    assert written["target_modules"] == sorted(written["target_modules"])
    assert (written["r"], written["lora_alpha"]) == (2, 16)
    prompt = [5, 6, 7]
    results = []
    completions = state.endpoints[0].engine.generate([prompt], 4, SamplingParams(1.0, 8), [0])[0]
    ids = [c.token_ids for c in completions]

    def logprobs(model: Any) -> np.ndarray:
        with torch.no_grad():
            return policy.completion_logprobs(model, [prompt] * 4, ids, 1.0)[0].numpy()

    for index in (0, 1):
        trainer = logprobs(state.activate(index))
        merged, tokenizer = policy.load(tmp_path / f"model/policy{index}")
        assert not any("lora" in name for name in merged.state_dict())
        assert tokenizer.get_vocab() == state.tokenizers[index].get_vocab()
        assert np.abs(trainer - logprobs(merged)).max() < 1e-5
        theirs = PeftModel.from_pretrained(
            policy.load(files["model"])[0], tmp_path / f"model/adapter{index}"
        )
        assert np.abs(trainer - logprobs(theirs.base_model.model)).max() < 1e-5
        results.append(trainer)
    engine = np.zeros_like(results[0])
    for row, completion in enumerate(completions):
        engine[row, : len(completion.token_ids)] = completion.logprobs
    assert np.abs(engine - results[0]).max() < 1e-5
    base = logprobs(policy.load(files["model"])[0])
    apart = [
        np.abs(a - b).max()
        for a, b in ((results[0], results[1]), (results[0], base), (results[1], base))
    ]
    assert min(apart) > 1e-2
    state.activate(1)
    with policy.without_adapters(state.models[0]) as start:  # what a KL term compares with
        assert np.abs(logprobs(start) - base).max() < 1e-6
    assert np.abs(logprobs(state.models[0]) - results[1]).max() == 0


@pytest.mark.usefixtures("lively")
def test_a_kl_term_of_adapters_is_that_of_separate_models(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference, computed between forward and backward by switching adapters off, changes no
    gradient: as with a model of its own, within 1e-5 of its norm (float32).
    """
    grads: list[dict[str, torch.Tensor]] = []
    for own in (False, True):
        over = {**LORA, "objective": {"name": "grpo", "kl": 0.5}}
        state = updated(
            files, 2, **{**over, "train": {"lr": 1e-2, "order": "simultaneous", "minibatches": 1}}
        )
        if own:
            state.references = [policy.load(files["model"])[0]] * 2
        run = RunConfig.model_validate(run_data(**{**over, "train": {"minibatches": 1}}))
        taking = state.optimisers[0]
        monkeypatch.setattr(
            taking,
            "step",
            lambda lr, of=taking: (
                grads.append({n: w.grad.clone() for n, w in of.parameters.items()}) or 0.0
            ),
        )
        training.update(run, run.build_team(), training.read_tasks(files["tasks"], "train"), state)
    ours, theirs = (torch.cat([g.flatten() for g in each.values()]) for each in grads)
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()
    assert theirs.norm() > 1e-3


@pytest.mark.usefixtures("lively")
@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
def test_adapters_resume_bit_for_bit_and_a_checkpoint_holds_no_base(
    order: str, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_files(tmp_path, tiny, **{**LORA, "train": {"lr": 1e-2, "order": order}})
    out = interrupted_equals_whole(files, monkeypatch)
    saved = policy.read_checkpoint(files["scratch"])
    assert saved is not None
    names = [name for weights in saved["weights.pt"] for name in weights]
    assert names
    assert all(".lora_" in name for name in names)
    folders = [(out / "model" / f"policy{i}/model.safetensors").read_bytes() for i in (0, 1)]
    assert len({*folders, (tiny / "model.safetensors").read_bytes()}) == 3


@pytest.mark.usefixtures("lively", "smooth")
def test_adapters_on_two_ranks_are_those_of_one(tmp_path: Path, tiny: Path) -> None:
    """Within float32's rounding of sums in another order: 1e-3 of their way after four updates of
    both agents.
    """
    files = make_files(tmp_path, tiny, policy="lora", train={"order": "simultaneous"})
    inputs = {k: files[k] for k in ("config", "tasks", "model")}
    outs = {world: tmp_path / f"out{world}" for world in (1, 2)}
    for world, out in outs.items():
        scratch = tmp_path / f"scratch{world}"
        codes = together(
            world,
            lambda _, w=world, o=out, s=scratch: training.train(
                **inputs, scratch=s, out=o, options=training.Options(ranks=w)
            ),
        )
        assert codes == [0] * world
    begin = tmp_path / "begin"
    updated(files, 0, policy="lora", train={"order": "simultaneous"}).write(begin / "model")
    for index in (0, 1):
        one, two, start = (
            load_file(out / f"model/adapter{index}/adapter_model.safetensors")
            for out in (*outs.values(), begin)
        )
        assert apart(one, two, start) < 1e-3
        assert any(weight.any() for name, weight in one.items() if "lora_B" in name)


def test_adapters_of_a_bfloat16_model_are_float32_and_start_as_nothing(
    files: dict[str, Path],
) -> None:
    state = updated(files, 0, **{**LORA, "train": {"dtype": "bfloat16"}})
    assert {w.dtype for w in policy.trainable(state.activate(0)).values()} == {torch.float32}
    assert state.models[0].get_input_embeddings().weight.dtype == torch.bfloat16
    assert all(
        not w.any() for name, w in policy.trainable(state.activate(1)).items() if "lora_B" in name
    )
    first, second = (
        [w for name, w in policy.trainable(state.activate(i)).items() if "lora_A" in name]
        for i in (0, 1)
    )
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_critic_of_adapters_is_a_whole_body_of_its_own(files: dict[str, Path]) -> None:
    over = {**LORA, "credit": "mappo", "advantage": "batch_whiten", "critic": {"lr": 1e-2}}
    state = updated(files, 1, **over)
    assert state.critic is not None
    assert not any("lora" in name for name in state.critic.network.body.state_dict())
    assert all(weight.requires_grad for weight in state.critic.network.body.parameters())


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"lora": {"rank": 2}}, "policy separate. Remove the block, or use policy lora"),
        ({"policy": "lora", "lora": {"rank": 0}}, "greater than or equal to 1"),
        ({"policy": "lora", "lora": {"rnk": 2}}, "Extra inputs"),
        ({"policy": "lora", "train": {"start": 2}}, "agents of team think_solve are 0..1"),
        ({"train": {"order": "together"}}, "'alternating' or 'simultaneous'"),
        ({"model": MIXED, "policy": "shared"}, "several models cannot have policy shared"),
        ({"model": MIXED, "policy": "lora"}, "several models cannot have policy lora"),
        ({"model": [*MIXED, MIXED[0]]}, "names 3, team think_solve has 2 agents"),
        ({"model": MIXED[:1]}, "at least 2"),
        ({"model": [MIXED[1]] * 2}, "Say it once: `model: big`"),
        (
            {
                "model": MIXED,
                "credit": "mappo",
                "advantage": "batch_whiten",
                "critic": {"lr": 1e-3},
            },
            "whose tokens the other agents' are not",
        ),
    ],
)
def test_policies_that_do_not_fit_are_refused(over: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="validation error") as error:
        RunConfig.model_validate(run_data(**over))
    assert message in str(error.value)


def test_the_block_of_adapters_is_filled_in() -> None:
    runs = [
        RunConfig.model_validate(run_data(policy="lora", **over))
        for over in ({}, {"lora": {"rank": 8, "alpha": 16}}, {"lora": {}})
    ]
    assert len({run.id for run in runs}) == 1
    assert RunConfig.model_validate(run_data()).lora is None
    assert RunConfig.model_validate(runs[0].model_dump(mode="json")) == runs[0]


@pytest.mark.usefixtures("lively")
def test_two_models_with_two_vocabularies_train_resume_and_are_evaluated(
    tmp_path: Path, tiny: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = mixed(tmp_path, [tiny, other], objective={"name": "grpo", "kl": 0.1})
    out = interrupted_equals_whole(files, monkeypatch)
    run = training.read_run(files["config"])
    assert run.id.startswith("arithmetic.think_solve.ccpo.small+big.s0-")
    for index, start in enumerate((tiny, other)):
        trained, tokenizer = policy.load(out / f"model/policy{index}")
        began, reads = policy.load(start)
        assert tokenizer.get_vocab() == reads.get_vocab()
        assert any(
            not torch.equal(w, began.state_dict()[name]) for name, w in trained.state_dict().items()
        )
    inputs = {(out / name).resolve() for name in lineage.read_provenance(out).inputs}
    assert {tiny.resolve(), other.resolve()} <= inputs
    rollouts = tmp_path / "eval" / "a" / "rollouts.parquet"
    inputs = sources(files, make_protocol(tmp_path))
    evaluate.rollout(inputs, scratch=files["scratch"], out=rollouts)
    rows = schema.read_table(rollouts, "rollouts").to_pandas()
    rows = rows[rows.fate == "drawn"]
    readers = [policy.load(folder)[1] for folder in (tiny, other)]
    counted = [[len(reader.encode(prompt)) for reader in readers] for prompt in rows.prompt]
    assert any(a != b for a, b in counted)
    assert [
        both[agent] for both, agent in zip(counted, rows.agent, strict=True)
    ] == rows.n_prompt_tokens.tolist()
    heard = rows[(rows.intervention == "untrained") & (rows.decoding == "greedy")].set_index(
        ["task_id", "turn"]
    )
    for task in heard.index.unique("task_id"):
        assert guard(heard.loc[(task, 0), "completion"]) in heard.loc[(task, 1), "prompt"]
    files["tasks"].rename(tmp_path / f"{tasks_slug(run.benchmark)}.parquet")
    protocol = read_protocol(inputs.protocol)
    pace = forecast.of_pilot(run, [protocol], files["model"], tmp_path)
    assert pace.disk == sum(
        4 * forecast._counted(folder / "model.safetensors") for folder in (tiny, other)
    )


def test_messages_travel_as_text(tmp_path: Path, tiny: Path, other: Path) -> None:
    """A reader of another vocabulary reads what was said, in tokens of its own: other ids, fewer of
    them where its tokens are longer.
    """
    files = mixed(tmp_path, [tiny, other], train={"fanout": [2, 1]})
    run = training.read_run(files["config"])
    state = training.State(run, files["model"])
    pool = training.read_tasks(files["tasks"], "train")[:4]
    thinker, solver = state.endpoints
    assert thinker.tokenizer.encode("3+9=12") != solver.tokenizer.encode("3+9=12")
    assert [len(s.tokenizer.encode("3+9=12")) for s in (thinker, solver)] == [6, 5]
    assert all(
        s.tokenizer.decode(s.tokenizer.encode("3+9=12")) == "3+9=12" for s in state.endpoints
    )
    playing = PlayingTeam(run.build_team(), state.endpoints, 1.0, (12,))
    played = play(run.plan(), pool, playing, [0], Ledger())
    tree = played.tree
    replies = np.flatnonzero(tree.factual & (tree.turn == 1))
    assert len(replies) == 8
    for i in replies:
        message = played.messages[i]
        thought = played.messages[tree.parent[i]]
        assert solver.tokenizer.decode(message.prompt).endswith(
            f"Thought: {guard(thought.text)}<|answer|>"
        )
        assert message.text == solver.tokenizer.decode(
            message.completion.token_ids, skip_special_tokens=True
        )


def test_a_vocabulary_in_another_order_changes_nothing(tmp_path: Path, tiny: Path) -> None:
    """A solver whose ids (and rows of weights) are permuted is the same solver: greedy answers of
    the mixed team are the plain team's.
    """
    plain, reads = policy.load(tiny)
    permuted = prepare.tiny_tokenizer(
        prepare.roles_of(tuple(SPEC["teams"])), tokens=tuple("9876543210+-=;")
    )
    old = reads.get_vocab()
    new = permuted.get_vocab()
    assert old.keys() == new.keys()
    order = torch.tensor([old[token] for token in sorted(new, key=lambda token: new[token])])
    assert (order != torch.arange(len(order))).float().mean() > 0.2
    with torch.no_grad():
        for layer in (
            plain.model.layers.parameters()
        ):  # as it is, an untaught model repeats the last token of its prompt
            layer.mul_(20)
        policy.save(plain, reads, tmp_path / "plain")
        weight = plain.get_input_embeddings().weight
        weight.copy_(weight[order].clone())
    policy.save(plain, permuted, tmp_path / "permuted")
    texts = []
    for models in ([tmp_path / "plain", tmp_path / "permuted"], [tmp_path / "plain"] * 2):
        files = mixed(
            tmp_path / str(len(texts)),
            models,
            train={"steps": 0},
            credit="none",
        )
        training.train(**files)
        rollouts = tmp_path / f"{len(texts)}" / "eval" / "a" / "rollouts.parquet"
        inputs = sources(files, make_protocol(tmp_path, interventions=["untrained"]))
        evaluate.rollout(inputs, scratch=files["scratch"], out=rollouts)
        rows = schema.read_table(rollouts, "rollouts").to_pandas()
        rows = rows[
            rows.decoding == "greedy"
        ]  # sampled, the same uniform number names another token of another order
        texts.append(rows[["task_id", "turn", "intervention", "prompt", "completion"]])
    assert texts[0].equals(texts[1])
    assert texts[0].completion.nunique() > 8


def test_the_number_of_model_folders_is_that_of_the_runs_models(
    tmp_path: Path, tiny: Path, other: Path
) -> None:
    files = mixed(tmp_path, [tiny, other])
    for folders in (tiny, [tiny], [tiny, other, tiny]):
        with pytest.raises(
            ValueError,
            match=r"the run starts with small, big. Remedy: one folder for each, in this order",
        ):
            training.train(**{**files, "model": folders})
    with pytest.raises(ValueError, match=r"2 model folder\(s\) given, the run starts with test\."):
        policy.starts(RunConfig.model_validate(run_data()), [tiny, other])


def test_the_size_of_a_mixed_team_is_the_mean_of_its_models() -> None:
    run = RunConfig.model_validate(run_data(model=MIXED))
    small, big = (m.parameters or 0.0 for m in run.models)
    assert small != big
    assert forecast.parameters(run, Path("nowhere")) == (small + big) / 2


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_freed_memory_is_used_again() -> None:
    """A tensor where a larger one was, of 16,384 pages: new pages would be as many faults."""
    policy._reuse_memory()
    torch.ones(1 << 24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones((1 << 24) - (1 << 12))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1000
