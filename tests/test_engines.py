"""What every engine keeps, and what those that speak with a model's weights owe a plain forward of
that model.

vLLM's cases need its environment: `make test-vllm`. CCPO_TEST_MODEL names a model folder that is
    tested beside the tiny one built here.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, SPEC, make_files
from scipy.stats import chisquare

from ccpo.models import policy
from ccpo.play import engine as engines
from ccpo.play.engine import Completion, Engine, SamplingParams, hf
from ccpo.play.engine.scripted import Scripted
from ccpo.ranks import ALONE

HAS_VLLM = importlib.util.find_spec("vllm") is not None
VLLM = pytest.param(
    "vllm",
    marks=pytest.mark.skipif(
        not HAS_VLLM, reason="vllm is not in this environment: make test-vllm"
    ),
)
# By how much float32 may round log-probs, as a share of how far apart they lie: kernels add up in
# other orders. Seen are 1.3e-6 here and on SmolLM2-135M; weights of one update before would be 1e-3
# off.
NEAR = 2e-5
TEXTS = ("7-1+9", "3+2", "What is 4+4-1? Say it in a box.", "9")


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose heads are as wide as vLLM's CPU kernels ask (32), with weights large enough to
    prefer some tokens to others.
    """
    from ccpo.config import WarmStart
    from ccpo.models import prepare

    torch.manual_seed(0)
    spec = WarmStart.model_validate({**SPEC, "hidden": 64, "layers": 2})
    tokenizer = prepare.tiny_tokenizer(prepare.roles_of(spec.teams))
    made = prepare.tiny_model(spec, tokenizer)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(4)
    built = tmp_path_factory.mktemp("models") / "wide"
    policy.save(made, tokenizer, built)
    return built


@pytest.fixture(
    scope="session", params=["tiny", *filter(None, [os.environ.get("CCPO_TEST_MODEL")])]
)
def folder(request: pytest.FixtureRequest, wide: Path) -> Path:
    """The model folders of the suite."""
    return wide if request.param == "tiny" else Path(request.param)


Case = tuple[Engine, Any, list[list[int]]]  # engine, model (None: a script), prompts
MADE: dict[tuple[str, Path], Case] = {}


@pytest.fixture
def make(folder: Path) -> Callable[[str], Case]:
    """Engine, model and prompts by the engine's name; an engine is started once, and ends a test
    with the weights it began with.
    """

    def build(name: str) -> Case:
        if name == "scripted":
            engine = Scripted(
                lambda prompt, sample, uniform: [*[2 + int(uniform * 90)] * (len(prompt) % 5), 1]
            )
            engine.limit = 256
            return engine, None, [[7] * n for n in (3, 4, 5, 9)]
        if (name, folder) not in MADE:
            model, tokenizer = policy.load(folder)
            engine = engines.load(name)(model, policy.end_ids(model, tokenizer))
            MADE[name, folder] = engine, model, [tokenizer.encode(text) for text in TEXTS]
        return MADE[name, folder]

    return build


@pytest.fixture(params=["scripted", "hf", VLLM])
def case(request: pytest.FixtureRequest, make: Callable[[str], Case]) -> Case:
    return make(request.param)


@pytest.fixture(params=["hf", VLLM])
def spoken(request: pytest.FixtureRequest, make: Callable[[str], Case]) -> Case:
    return make(request.param)


def plain(
    model: Any, prompt: list[int], completion: list[int], temperature: float = 1.0
) -> torch.Tensor:
    """Log-probs [tokens said, vocabulary] by one full forward, without a cache."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + completion], device=model.device)).logits[
            0, len(prompt) - 1 : -1
        ]
    return torch.log_softmax(logits.double() / temperature, -1).cpu()


def chosen(logps: torch.Tensor, completion: list[int]) -> list[float]:
    """Log-probs of the tokens said."""
    return logps.gather(1, torch.tensor(completion)[:, None])[:, 0].tolist()


def near(logps: torch.Tensor) -> float:
    """What the log-probs of two right forwards may differ by; `logps` [tokens said, vocabulary] are
    one's.
    """
    return NEAR * float((logps.max(-1).values - logps.min(-1).values).max())


def speaks_as(logps: torch.Tensor, completion: Completion) -> None:
    """The tokens said have the log-probs of a plain forward."""
    assert chosen(logps, completion.token_ids) == pytest.approx(
        completion.logprobs, abs=near(logps)
    )


def is_greedy(logps: torch.Tensor, completion: Completion) -> None:
    """No token is likelier than those said. Of two that are within rounding either will do, on any
    machine.
    """
    speaks_as(logps, completion)
    assert logps.max(-1).values.tolist() == pytest.approx(completion.logprobs, abs=near(logps))


def ids(rows: list[list[Completion]]) -> list[list[list[int]]]:
    return [[c.token_ids for c in row] for row in rows]


def test_an_empty_prompt_and_one_that_does_not_fit_are_refused(case: Case) -> None:
    engine, _, prompts = case
    assert engine.limit is not None
    with pytest.raises(ValueError, match="prompt 1 has 0 tokens"):
        engine.generate([prompts[0], []], 1, SamplingParams(1.0, 4), [0])
    long = [5] * (engine.limit - 3)
    with pytest.raises(ValueError, match=rf"prompt 0 has {len(long)} tokens; with 4 to generate"):
        engine.generate([long], 1, SamplingParams(1.0, 4), [0])
    if engine.limit < 1000:  # and the longest that fits is not; 8,192 tokens take minutes
        [[cut]] = engine.generate([long], 1, SamplingParams(1.0, 3), [0])
        assert 0 < len(cut.token_ids) <= 3


def test_n_completions_of_each_prompt_come_in_order(case: Case) -> None:
    engine, model, prompts = case
    results = engine.generate(prompts, 3, SamplingParams(1.0, 6), [1])
    assert [len(row) for row in results] == [3] * len(prompts)
    for prompt, row in zip(prompts, results, strict=True):
        for c in row:
            assert len(c.token_ids) == len(c.logprobs) <= 6
            if model is None:
                assert len(c.token_ids) == len(prompt) % 5 + 1
            else:  # they are this prompt's, not its neighbour's
                speaks_as(plain(model, prompt, c.token_ids), c)
    assert engine.generate([], 3, SamplingParams(1.0, 6), [1]) == []


def test_a_seed_draws_the_same_again_and_another_draws_others(case: Case) -> None:
    engine, _, prompts = case
    a, b, other = (
        engine.generate(prompts, 4, SamplingParams(1.0, 8), seed)
        for seed in ([3, 1], [3, 1], [3, 2])
    )
    assert ids(a) == ids(b)
    assert ids(a) != ids(other)
    assert len({tuple(c.token_ids) for c in a[0]}) > 1  # siblings differ


def test_draws_do_not_depend_on_the_company(case: Case) -> None:
    """What a prompt draws is a matter of the seed, its place and the sample's number. For vLLM this
    holds as far as the logits do, whose last bits move with the shape of the batch; that changes no
    token here.
    """
    engine, _, prompts = case
    company, alone = (
        engine.generate(prompts[:k], 3, SamplingParams(1.0, 8), [5]) for k in (len(prompts), 1)
    )
    assert ids(company)[:1] == ids(alone)
    others = engine.generate([prompts[0], *prompts[:0:-1]], 3, SamplingParams(1.0, 8), [5])
    assert ids(others)[:1] == ids(alone)


def test_a_crowd_draws_what_each_draws_alone(spoken: Case) -> None:
    """More tokens of prompts at once than an engine reads in one go (vLLM: 4,096), more rows than
    it decodes together (256).
    """
    engine, _, prompts = spoken
    long = (prompts[2] * 40)[:100]
    crowd = (
        [long[i:] + long[:i] for i in range(50)]
        if engine.limit and engine.limit < 1000
        else [long] * 5
    )
    results = engine.generate(crowd, 6, SamplingParams(1.0, 4), [8])
    assert ids(results)[:1] == ids(engine.generate(crowd[:1], 6, SamplingParams(1.0, 4), [8]))
    assert ids(results) == ids(engine.generate(crowd, 6, SamplingParams(1.0, 4), [8]))


@pytest.mark.parametrize("other", [False, True], ids=["own", "other"])
def test_the_end_token_ends_and_is_included_and_a_cut_message_says_so(
    case: Case, other: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end tokens are those the engine is told, even where the model's folder names others."""
    engine, model, prompts = case
    if model is not None and other:
        [[likely]] = engine.generate(prompts[:1], 1, SamplingParams(0.0, 1), [0])
        monkeypatch.setattr(
            engine,
            "end_ids",
            [next(i for i in (likely.token_ids[0], 5) if i not in engine.end_ids)],
        )  # type: ignore[attr-defined]
    ends = [1] if model is None else engine.end_ids  # type: ignore[attr-defined]
    results = [c for row in engine.generate(prompts, 60, SamplingParams(1.5, 5), [2]) for c in row]
    for c in results:
        assert not set(c.token_ids[:-1]) & set(ends)
        assert c.finish_reason == ("stop" if c.token_ids[-1] in ends else "length")
        assert len(c.token_ids) == 5 or c.finish_reason == "stop"
    if (
        model is not None and model.config.vocab_size < 1000
    ):  # in a large vocabulary the end is too rare to be drawn
        assert {c.finish_reason for c in results} == {"stop", "length"}


def test_an_engine_finds_its_own_log_probs_again(case: Case) -> None:
    """By `logprobs`, at the drawing temperature, and at temperature 1 if greedy; messages of
    different lengths, one of one token.
    """
    engine, model, prompts = case
    for temperature in (0.0, 0.7):
        results = [
            row[0] for row in engine.generate(prompts, 1, SamplingParams(temperature, 6), [4])
        ]
        completion = [results[0].token_ids[:1], *[c.token_ids for c in results[1:]]]
        again = engine.logprobs(prompts, completion, temperature)
        for prompt, row, tokens, c in zip(prompts, again, completion, results, strict=True):
            allowed = (
                near(plain(model, prompt, tokens, temperature or 1.0)) if model is not None else 0.0
            )
            assert row == pytest.approx(c.logprobs[: len(tokens)], abs=allowed)


def test_greedy_is_the_argmax_of_a_plain_forward_token_for_token(spoken: Case) -> None:
    engine, model, prompts = spoken
    for prompt, [c] in zip(
        prompts, engine.generate(prompts, 1, SamplingParams(0.0, 24), [0]), strict=True
    ):
        is_greedy(plain(model, prompt, c.token_ids), c)  # its log-probs are at temperature 1


def test_log_probs_are_those_of_a_plain_forward_at_the_drawing_temperature(spoken: Case) -> None:
    engine, model, prompts = spoken
    for prompt, row in zip(
        prompts, engine.generate(prompts, 4, SamplingParams(0.7, 12), [6]), strict=True
    ):
        for c in row:
            speaks_as(plain(model, prompt, c.token_ids, 0.7), c)


def kept_by_hand(shares: list[float], top_p: float, top_k: int) -> dict[int, float]:
    """What top-k and then top-p leave of a distribution, renormalised: token by token."""
    order = sorted(range(len(shares)), key=lambda token: -shares[token])
    if top_k:
        last = shares[order[min(top_k, len(order)) - 1]]
        order = [token for token in order if shares[token] >= last]
    total = sum(shares[token] for token in order)
    left = list[int]()
    held = 0.0
    for token in order:
        if held >= top_p and top_p < 1:
            break
        left.append(token)
        held += shares[token] / total
    return {token: shares[token] / sum(shares[t] for t in left) for token in left}


@pytest.mark.parametrize(
    ("top_p", "top_k"), [(1.0, 0), (0.8, 0), (1.0, 3), (0.8, 3), (0.55, 5), (0.01, 0), (0.93, 99)]
)
def test_truncation_is_top_k_and_then_top_p_of_what_is_left(top_p: float, top_k: int) -> None:
    """Against a count by hand, and against transformers' own warpers in that order; equally likely
    tokens at the end of top-k are both kept.
    """
    from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

    rows = [
        [0.4, 0.05, 0.3, 0.15, 0.1],
        [0.25, 0.25, 0.2, 0.2, 0.1],  # ties
        [0.02, 0.9, 0.05, 0.02, 0.01],
    ]
    logprobs = torch.tensor(rows, dtype=torch.float64).log()
    ours = hf.truncate(logprobs, top_p, top_k).exp()
    theirs = logprobs
    if top_k:
        theirs = TopKLogitsWarper(top_k)(None, theirs)
    if top_p < 1:
        theirs = TopPLogitsWarper(top_p)(None, theirs)
    for i, shares in enumerate(rows):
        expected = kept_by_hand(shares, top_p, top_k)
        by_hand = [expected.get(token, 0.0) for token in range(len(shares))]
        assert ours[i].tolist() == pytest.approx(by_hand, abs=1e-12), shares
        assert len(expected) == int(theirs[i].isfinite().sum()), shares


def test_truncated_draws_stay_in_what_is_left_with_log_probs_of_it(spoken: Case) -> None:
    """400 first tokens at temperature 1.5: all that is left is drawn and nothing else, as often as
    it is likely; without truncation many others are.
    """
    engine, model, prompts = spoken
    shares = plain(model, prompts[0], [2], 1.5)[0].exp().tolist()
    [results] = engine.generate(prompts[:1], 400, SamplingParams(1.5, 1, 0.5, 6), [3])
    left = kept_by_hand(shares, 0.5, 6)
    drawn = Counter(c.token_ids[0] for c in results)
    assert set(drawn) == set(left)
    assert len(left) in range(2, 7)
    for c in results:
        assert c.logprobs[0] == pytest.approx(np.log(left[c.token_ids[0]]), abs=1e-4)
    expected = [400 * left[token] for token in left]
    assert chisquare([drawn[token] for token in left], expected).pvalue > 1e-4
    [full] = engine.generate(prompts[:1], 400, SamplingParams(1.5, 1), [3])
    assert len({c.token_ids[0] for c in full}) > len(left)


def test_tokens_are_drawn_as_often_as_the_model_says(spoken: Case) -> None:
    """Chi-square of 2,000 first tokens, and of the second tokens behind the most frequent first
    one; tokens expected less than five times are one cell. A right engine fails with chance 2e-4
    for a seed, and the seed is fixed.
    """
    engine, model, prompts = spoken
    [results] = engine.generate(prompts[:1], 2000, SamplingParams(0.9, 2), [7])
    first = np.array([c.token_ids[0] for c in results])
    mode = int(np.bincount(first).argmax())
    second = np.array(
        [c.token_ids[1] for c in results if c.token_ids[0] == mode and len(c.token_ids) == 2]
    )
    assert len(second) > 100
    logps = plain(model, prompts[0], [mode, mode], 0.9)
    for tokens, logp in ((first, logps[0]), (second, logps[1])):
        expected = logp.exp().numpy() * len(tokens)
        counts = np.bincount(tokens, minlength=len(expected))
        often = expected >= 5
        cells = [np.append(x[often], x[~often].sum()) for x in (counts, expected)]
        assert often.sum() > 3
        assert chisquare(cells[0], cells[1] * cells[0].sum() / cells[1].sum()).pvalue > 1e-4


@pytest.fixture
def changed(spoken: Case) -> Any:
    """The case, and what changes its weights; they are put back."""
    engine, model, _ = spoken
    kept = {name: weight.clone() for name, weight in model.state_dict().items()}
    generator = torch.Generator().manual_seed(1)

    def change() -> None:
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(
                    0.3
                    * weight.std()
                    * torch.randn(weight.shape, generator=generator).to(weight.device)
                )

    yield spoken, change
    model.load_state_dict(kept)
    engine.refresh()


def test_after_a_refresh_it_speaks_with_the_new_weights_and_no_stale_prefix(changed: Any) -> None:
    """The prompt is long enough for whole cached blocks, and the same before and after."""
    (engine, model, prompts), change = changed
    prompt = (prompts[2] * 40)[:200]
    [[before]] = engine.generate([prompt], 1, SamplingParams(0.0, 8), [0])
    for _ in range(2):
        change()
        engine.sleep()
        engine.refresh()
        [[after]] = engine.generate([prompt], 1, SamplingParams(0.0, 8), [0])
        logps = plain(model, prompt, after.token_ids)
        is_greedy(logps, after)
        assert engine.logprobs([prompt], [after.token_ids], 1.0)[0] == pytest.approx(
            after.logprobs, abs=near(logps)
        )
        moved = np.array(engine.logprobs([prompt], [before.token_ids], 1.0)[0]) - before.logprobs
        # so that the old weights would have failed above
        assert np.abs(moved).max() > 10 * near(logps)
        before = after


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
@pytest.mark.parametrize("name", ["hf", VLLM])
def test_adapters_of_one_model_speak_each_for_itself(folder: Path, name: str) -> None:
    """Two engines over one model; after one adapter has changed and was refreshed, it speaks anew
    and the other as before.
    """
    from peft import LoraConfig
    from peft.functional import set_adapter

    model, tokenizer = policy.load(folder)
    torch.manual_seed(3)
    for adapter in ("a", "b"):
        model.add_adapter(
            LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False),
            adapter,
        )
    ends = policy.end_ids(model, tokenizer)
    prompt = tokenizer.encode(TEXTS[2])
    speaks = {
        a: engines.load(name)(model, ends, activate=functools.partial(set_adapter, model, a))
        for a in ("a", "b")
    }

    def says(adapter: str) -> Completion:
        [[completion]] = speaks[adapter].generate([prompt], 1, SamplingParams(0.0, 8), [0])
        set_adapter(model, adapter)
        is_greedy(plain(model, prompt, completion.token_ids), completion)
        return completion

    a = says("a")
    b = says("b")
    assert a.logprobs != b.logprobs
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if ".a." in key:
                weight.mul_(-1.5)
    speaks["a"].refresh()
    assert says("a").logprobs != a.logprobs
    assert says("b") == b


vllm_only = pytest.mark.skipif(
    not HAS_VLLM, reason="vllm is not in this environment: make test-vllm"
)


@pytest.fixture
def apart(make: Callable[[str], Case]) -> Any:
    """vLLM's case, put right after a test that makes it wrong on purpose."""
    engine, model, prompts = make("vllm")
    kept = {name: weight.clone() for name, weight in model.state_dict().items()}
    yield engine, model, prompts
    model.load_state_dict(kept)
    engine.refresh()


@vllm_only
def test_without_a_refresh_vllm_speaks_with_the_old_weights(apart: Any) -> None:
    """It has weights of its own: a push that only lent the trainer's tensors would follow them in
    the middle of an update.
    """
    engine, model, prompts = apart
    before = engine.generate(prompts, 1, SamplingParams(0.0, 8), [0])
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(-1)
    assert engine.generate(prompts, 1, SamplingParams(0.0, 8), [0]) == before


@vllm_only
def test_a_prefix_cached_with_old_weights_would_be_noticed(apart: Any) -> None:
    """Weights pushed behind the engine's back leave the cache as it is: then `logprobs` differ from
    a plain forward, as a canary needs.
    """
    from ccpo.play.engine.vllm import _core

    engine, model, prompts = apart
    prompt = (prompts[2] * 40)[:200]
    [[completion]] = engine.generate([prompt], 1, SamplingParams(0.0, 4), [0])
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(
                0.3
                * weight.std()
                * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)).to(
                    weight.device
                )
            )
    _core(model, ALONE).load(model.state_dict())
    logps = plain(model, prompt, completion.token_ids)
    truth = chosen(logps, completion.token_ids)
    assert np.abs(
        np.array(truth) - engine.logprobs([prompt], [completion.token_ids], 1.0)[0]
    ).max() > 10 * near(logps)
    engine.refresh()
    assert truth == pytest.approx(
        engine.logprobs([prompt], [completion.token_ids], 1.0)[0], abs=near(logps)
    )


@vllm_only
def test_a_vllm_that_dies_or_leaves_a_message_unfinished_counts_nothing(
    apart: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ccpo.play.engine.vllm import _core

    engine, model, prompts = apart
    llm = _core(model, ALONE).llm
    true = llm.generate

    def dies(*a: object, **k: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access")

    def aborts(*a: object, **k: object) -> Any:
        answers = true(*a, **k)
        answers[1].outputs[0].finish_reason = "abort"
        return answers

    monkeypatch.setattr(llm, "generate", dies)
    with pytest.raises(ValueError, match="vLLM died while it generated: RuntimeError: CUDA error"):
        engine.generate(prompts, 1, SamplingParams(1.0, 3), [0])
    monkeypatch.setattr(llm, "generate", aborts)
    with pytest.raises(ValueError, match="completed 3 of 4 messages"):
        engine.generate(prompts, 1, SamplingParams(1.0, 3), [0])


@vllm_only
@pytest.mark.skipif(torch.cuda.is_available(), reason="the limit is one of vLLM's CPU kernels")
def test_a_model_that_vllm_cannot_run_ends_in_words(tiny: Path) -> None:
    """Heads of 8 numbers; the error is vLLM's own, from the first forward."""
    model, tokenizer = policy.load(tiny)
    engine = engines.load("vllm")(model, policy.end_ids(model, tokenizer))
    with pytest.raises(ValueError, match=r"vLLM .*head.*Remedy"):
        engine.generate([[5, 6]], 1, SamplingParams(1.0, 3), [0])


@vllm_only
@pytest.mark.usefixtures("lively")
def test_a_training_with_vllm_is_in_step_and_goes_on_after_an_interruption(
    tmp_path: Path, wide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two policies in turns, eight updates. Every update compares the messages' log-probs with the
    trainer's (2e-3, update.GAP), so an engine that lags behind would stop it. Stopped after four
    updates and gone on with: the same messages, the same weights.
    """
    from ccpo import schema
    from ccpo.learn import train as training
    from ccpo.play.engine import vllm

    monkeypatch.setattr(vllm, "CACHE", 1 << 26)  # of six engines in one process
    blocks: dict[str, Any] = {
        "train": {"steps": 8, "lr": 3e-3},
        "sampling": {"engine": "vllm"},
        "model": {"name": "wide", "spec": {**SPEC, "hidden": 64, "layers": 2}},
    }
    whole, halves = (make_files(tmp_path / name, wide, **blocks) for name in ("whole", "halves"))
    training.train(**whole)
    true = training.update
    stop = iter([False] * 3 + [True] + [False] * 9)

    def stopping(*a: Any, **k: Any) -> Any:
        done = true(*a, **k)
        if next(stop):
            os.kill(os.getpid(), signal.SIGTERM)
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "update", stopping)
        with pytest.raises(training.Interrupted):
            training.train(**halves)
    training.train(**halves)
    for name in ("train", "credit", "ledger"):
        assert (whole["out"] / f"{name}.parquet").read_bytes() == (
            halves["out"] / f"{name}.parquet"
        ).read_bytes()
    rows = schema.read_table(whole["out"] / "train.parquet", "train").to_pylist()
    assert 0 < max(row["logprob_gap"] for row in rows) < 1e-3
    assert len({row["reward"] for row in rows}) > 2
    for index in (0, 1):
        ours, theirs = (
            policy.load(files["out"] / "model" / f"policy{index}")[0].state_dict()
            for files in (whole, halves)
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


SHARED = """
import sys, torch
from ccpo import ranks
from ccpo.learn import policy
from ccpo.play.engine import SamplingParams, load

folder, world, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
here = ranks.join(world)
model, tokenizer = policy.load(folder)
engine = load("vllm")(model, policy.end_ids(model, tokenizer), ranks=here)
prompts = [tokenizer.encode(text) for text in ("7-1+9", "3+2", "9-3+2", "1+1+1", "4")]
said = [engine.generate(prompts, 2, SamplingParams(1.0, 8), [1])]
with torch.no_grad():
    model.get_input_embeddings().weight.mul_(-1)
engine.refresh()
said.append(engine.generate(prompts, 2, SamplingParams(1.0, 8), [1]))
torch.save([[c.token_ids for row in part for c in row] for part in said], f"{out}{here.rank}")
"""


@vllm_only
@pytest.mark.timeout(900)  # vLLM starts three times
@pytest.mark.skipif(torch.cuda.is_available(), reason="for two ranks it takes two GPUs")
def test_two_ranks_draw_what_one_draws_and_both_hear_it(tmp_path: Path, wide: Path) -> None:
    (tmp_path / "shared.py").write_text(SHARED)
    for world, launch in (
        (1, []),
        (2, ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]),
    ):
        command = [
            sys.executable,
            *launch,
            tmp_path / "shared.py",
            wide,
            str(world),
            tmp_path / f"said{world}-",
        ]
        subprocess.run(
            command,
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
        )
    alone, first, second = (torch.load(tmp_path / f"said{name}") for name in ("1-0", "2-0", "2-1"))
    assert alone == first == second
    assert alone[0] != alone[1]


@vllm_only
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_resting_vllm_gives_its_memory_back_and_wakes_with_the_weights_it_had(
    make: Callable[[str], Case],
) -> None:
    engine, _, prompts = make("vllm")
    before = engine.generate(prompts, 1, SamplingParams(0.0, 8), [0])
    taken = torch.cuda.mem_get_info()[0]
    engine.sleep()
    assert torch.cuda.mem_get_info()[0] > taken + (1 << 30)  # its key-value cache alone is larger
    assert engine.generate(prompts, 1, SamplingParams(0.0, 8), [0]) == before


@vllm_only
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_sums_of_its_weights_are_the_trainers_and_tell_of_a_layer_that_was_not_pushed(
    make: Callable[[str], Case],
) -> None:
    engine, model, prompts = make("vllm")
    engine.generate(prompts, 1, SamplingParams(0.0, 8), [0])
    ours = engines.sums_by_layer(model.named_parameters())
    assert engine.layer_sums() == pytest.approx(ours, rel=1e-9)
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "layers.1" in name).add_(1e-3)
    assert engine.layer_sums()["layers.1"] != pytest.approx(
        engines.sums_by_layer(model.named_parameters())["layers.1"], rel=1e-9
    )
    engine.refresh()
    assert engine.layer_sums() == pytest.approx(
        engines.sums_by_layer(model.named_parameters()), rel=1e-9
    )


def test_sums_of_weights_by_layer(make: Callable[[str], Case]) -> None:
    engine, model, _ = make("hf")
    results = engines.sums_by_layer(model.named_parameters())
    assert set(results) == {
        *(f"layers.{i}" for i in range(model.config.num_hidden_layers)),
        "what is not in a layer",
    }
    assert sum(results.values()) == pytest.approx(
        sum(float(p.detach().double().abs().sum()) for p in model.parameters()), rel=1e-12
    )
    assert engine.layer_sums() == {}, "it has no weights but the model's"
