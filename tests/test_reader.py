"""A critic with a model of its own: what it reads, what it learns, what it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import run_data
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ccpo import schema
from ccpo.config import Critic as Settings
from ccpo.config import Folder, Model, RunConfig, canonical
from ccpo.learn import train as training
from ccpo.learn.critic import Body, Critic
from ccpo.models import policy, prepare

MAPPO = {"credit": "mappo", "advantage": {"name": "batch_whiten", "unit": "message"}}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ModernBERT of a few thousand weights whose tokens are characters."""
    folder = tmp_path_factory.mktemp("reader") / "encoder"
    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", *map(chr, range(32, 127)), "\n"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", pad_token="[PAD]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.ModernBertConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=3,
        embedding_dropout=0.1,
    )
    transformers.ModernBertForMaskedLM(config).save_pretrained(folder)
    return folder


def listed(folder: Path, **more: Any) -> dict[str, Any]:
    spec = {"source": "folder", "path": str(folder), "sha256": schema.sha256(folder), **more}
    return {"name": folder.name, "spec": spec}


def body(encoder: Path) -> Body:
    return Body(*policy.load_reader(encoder))


def test_a_value_is_that_of_the_text_alone_whatever_is_beside_it(encoder: Path) -> None:
    """Padding is masked: in a batch as alone; and by the body's own forward, read at [CLS]."""
    critic = Critic(body(encoder), "context", Settings(lr=1e-3))
    assert not critic.body.causal
    torch.nn.init.normal_(critic.network.head.weight)
    texts = [[1, 10, 11, 2], [1, *range(20, 60), 2], [1, 5, 2]]
    together = critic.values(texts)
    with torch.no_grad():
        for text, value in zip(texts, together, strict=True):
            own = critic.body.model(input_ids=torch.tensor([text])).last_hidden_state[0, 0]
            assert value == pytest.approx(float(critic.network.head(own)), abs=1e-5)
            assert value == pytest.approx(float(critic.values([text])[0]), abs=1e-5)
    assert len(set(np.round(together, 6))) == 3
    # dropout would draw anew
    assert critic.network.training
    assert (critic.values(texts) == together).all()


def test_it_reads_what_the_tokens_of_the_policy_spell(encoder: Path, tiny: Path) -> None:
    critic = Critic(body(encoder), "message", Settings(lr=1e-3))
    speaks = policy.load(tiny)[1]
    prompt = speaks("2 + 3 = ")["input_ids"]
    said = speaks("5")["input_ids"]
    read = critic.reads(prompt, said, speaks)
    spelled = speaks.decode(prompt + said, skip_special_tokens=False)
    assert [read[0], read[-1]] == [1, 2]
    shown = critic.body.tokenizer.convert_ids_to_tokens(read[1:-1])
    assert "".join(shown) == spelled
    assert len(Critic(body(encoder), "context", Settings(lr=1)).reads(prompt, said, speaks)) < len(
        read
    )
    # too long: the end, and the token at which a value is read
    cut = critic.reads(prompt * 30, said, speaks)
    assert (len(cut), cut[0], cut[-5:]) == (64, 1, critic.reads(prompt, said, speaks)[-5:])


def test_it_learns_what_a_text_is_worth(encoder: Path) -> None:
    critic = Critic(body(encoder), "context", Settings(lr=3e-3, steps=1, clip=10.0))
    texts = [[1, 10, first, 12, 2] for first in (20, 21) for _ in range(4)]
    targets = np.array([0.0] * 4 + [1.0] * 4)
    errors = [critic.fit(texts, critic.values(texts), targets) for _ in range(60)]
    assert errors[0] > 0.4
    assert errors[-1] < 0.05


@pytest.mark.usefixtures("lively")
@pytest.mark.parametrize("which", ["encoder", "policy"])
def test_a_training_with_it_runs_resumes_and_names_it(
    which: str, encoder: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = encoder if which == "encoder" else files["model"]
    own = listed(folder, reader=True) if which == "encoder" else listed(folder)
    data = run_data(**MAPPO, critic={"lr": 1e-3, "model": own}, train={"steps": 3})
    run = RunConfig.model_validate(data)
    assert [m.name for m in run.prepared] == [*(m.name for m in run.models), folder.name]
    files["config"].write_text(canonical(run.model_dump(mode="json")))
    both = {**files, "model": [files["model"], folder]}
    training.train(**both)
    provenance = (files["out"] / "provenance.json").read_text()
    assert folder.name in provenance
    again = files["out"].with_name("again")
    update = training.update
    calls = []

    def dying(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(training, "SAVED", -1.0)
    monkeypatch.setattr(training, "update", dying)
    fresh = {**both, "out": again, "scratch": files["scratch"].with_name("fresh")}
    with pytest.raises(KeyboardInterrupt):
        training.train(**fresh)
    monkeypatch.setattr(training, "update", update)
    training.train(**fresh)
    for name in ("train.parquet", "credit.parquet", "ledger.parquet"):
        assert (again / name).read_bytes() == (files["out"] / name).read_bytes()
    with pytest.raises(ValueError, match=r"has a model of its own, .*folder is not given"):
        training.train(**{**files, "scratch": files["scratch"].with_name("third")})


def test_what_only_reads_is_prepared_without_a_chat_and_never_speaks(
    encoder: Path, tmp_path: Path
) -> None:
    spec = Folder.model_validate(listed(encoder, reader=True)["spec"])
    prepare.prepare(Model(name="encoder", spec=spec), tmp_path / "prepared")
    read, _, causal = policy.load_reader(tmp_path / "prepared")
    assert not causal
    kept = dict(policy.load_reader(encoder)[0].state_dict())
    assert kept.keys() == read.state_dict().keys()
    assert all(torch.equal(kept[name], value) for name, value in read.state_dict().items())
    with pytest.raises(ValueError, match="speaks nothing"):
        RunConfig.model_validate(run_data(model=listed(encoder, reader=True)))
    with pytest.raises(ValueError, match=r"critic\.dtype=bfloat16 is of a model of its own"):
        RunConfig.model_validate(run_data(**MAPPO, critic={"lr": 1e-3, "dtype": "bfloat16"}))
    with pytest.raises(ValueError, match=r"no config\.json"):
        policy.load_reader(tmp_path)
