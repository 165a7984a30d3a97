"""What each kind of model gets at the gate, on small models and tokenizers built here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chats
import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from ccpo import schema
from ccpo.config import Model
from ccpo.models import gate, policy, prepare
from ccpo.models.gate import Declared
from ccpo.play.engine import SamplingParams
from ccpo.play.engine.hf import HF

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.5,  # an untaught model that prefers some tokens to others
}


def qwen_like() -> Any:
    return chats.byte_level(chats.CHATML, chats.CHATML_MARKS, eos="<|im_end|>")


def llama(tokenizer: Any, **more: Any) -> Any:
    return built(LlamaConfig, LlamaForCausalLM, tokenizer, **SIZES, **more)


def built(config: Any, kind: Any, tokenizer: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": None}
    return kind(config(vocab_size=len(tokenizer), **ends, **options))


def granite(tokenizer: Any) -> Any:
    scales = {
        "logits_scaling": 8.0,
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.2,
        "attention_multiplier": 0.1,
    }
    return built(GraniteConfig, GraniteForCausalLM, tokenizer, **SIZES, **scales)


def capped(tokenizer: Any) -> Any:
    """As Gemma 2, of which attention here has no capping."""
    options = {
        "head_dim": 8,
        "layer_types": ["full_attention"] * 2,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": 2.0,
    }
    return built(Gemma2Config, Gemma2ForCausalLM, tokenizer, **SIZES, **options)


def cohere(tokenizer: Any) -> Any:
    return built(CohereConfig, CohereForCausalLM, tokenizer, **SIZES, logit_scale=0.0625)


def passed(model: Any, tokenizer: Any, declared: Declared | None = None) -> None:
    policy.attention.prepare(model)
    gate.pass_gate("m", model, tokenizer, declared or Declared())


BEHIND_THE_HEAD = {"granite": granite, "gemma": capped, "cohere": cohere}


@pytest.mark.parametrize("kind", BEHIND_THE_HEAD)
def test_what_a_model_does_behind_its_head_is_done_here_too(kind: str) -> None:
    """Trainer and engine against transformers' forward, and the head alone is something else:
    otherwise this would show nothing.
    """
    tokenizer = qwen_like()
    model = BEHIND_THE_HEAD[kind](tokenizer).eval()
    prompt = tokenizer.encode("What is 1+1?")
    with torch.no_grad():
        token_ids = torch.tensor([prompt])
        full = torch.log_softmax(model(token_ids).logits[0, -1], -1)
        hidden = model.base_model(token_ids).last_hidden_state[0, -1]
        bare = torch.log_softmax(model.get_output_embeddings()(hidden), -1)
    assert (full - bare).abs().max() > 0.5
    passed(model, tokenizer)
    draws = HF(model, []).generate([prompt], 200, SamplingParams(1.0, 1), [0])[0]
    for draw in draws:
        assert draw.logprobs[0] == pytest.approx(float(full[draw.token_ids[0]]), abs=1e-4)


def test_a_head_that_is_called_by_itself_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from ccpo.play.engine import head

    monkeypatch.setattr(head, "logits", lambda model, h: model.get_output_embeddings()(h))
    tokenizer = qwen_like()
    with pytest.raises(ValueError, match=r"the trainer computes other log-probs .* granite"):
        passed(granite(tokenizer), tokenizer)


def test_a_model_that_computes_otherwise_while_it_trains_is_refused() -> None:
    """As routers do that are shaken in training."""
    tokenizer = qwen_like()
    model = llama(tokenizer)
    norm = model.base_model.norm
    norm.register_forward_hook(
        lambda module, _, out: out * (1 + 0.5 * torch.rand_like(out)) if module.training else out
    )
    with pytest.raises(ValueError, match="the trainer computes other log-probs"):
        passed(model, tokenizer)


class Plain(LlamaForCausalLM):
    """Takes nothing but what it knows."""

    def forward(self, input_ids: Any, past_key_values: Any = None, use_cache: Any = None) -> Any:
        return super().forward(input_ids, past_key_values=past_key_values, use_cache=use_cache)


def test_a_model_that_breaks_is_refused_in_words() -> None:
    tokenizer = qwen_like()
    with pytest.raises(ValueError, match=r"model m is refused: a llama cannot .*TypeError"):
        passed(built(LlamaConfig, Plain, tokenizer, **SIZES), tokenizer)
    small = built(LlamaConfig, LlamaForCausalLM, tokenizer, **SIZES)
    small.resize_token_embeddings(100)
    with pytest.raises(ValueError, match=r"gives token 2\d\d, and it has weights for 100"):
        passed(small, tokenizer)


def gpt2(tokenizer: Any) -> Any:
    return built(
        GPT2Config, GPT2LMHeadModel, tokenizer, n_embd=16, n_layer=2, n_head=2, n_positions=512
    )


def dropping(tokenizer: Any) -> Any:
    return llama(tokenizer, attention_dropout=0.3)


def residual(tokenizer: Any) -> Any:
    """Dropout of a kind and name of its own, beside a rate that is read when it is needed."""
    model = llama(tokenizer)
    norm = model.base_model.norm
    norm.hidden_dropout_prob = 0.4
    norm.register_forward_hook(
        lambda module, _, out: torch.nn.functional.dropout(
            out, module.hidden_dropout_prob, module.training
        )
    )
    return model


@pytest.mark.parametrize("make", [gpt2, dropping, residual])
def test_dropout_is_off_whatever_it_is_called(
    make: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = qwen_like()
    model = make(tokenizer)
    token_ids = torch.tensor([tokenizer.encode("What is 1+1?")])
    model.train()
    with torch.no_grad():
        assert not torch.equal(model(token_ids).logits, model(token_ids).logits)
        model.eval()
        plain = model(token_ids).logits
        with caplog.at_level(logging.INFO, "ccpo"):
            passed(model, tokenizer)
        assert torch.allclose(model.train()(token_ids).logits, plain, atol=1e-5)
    assert "dropout is switched off" in caplog.text


def test_a_loaded_model_has_no_dropout(tmp_path: Path) -> None:
    tokenizer = qwen_like()
    policy.save(dropping(tokenizer), tokenizer, tmp_path / "m")
    model = policy.load(tmp_path / "m")[0]
    assert model.config.attention_dropout == 0
    assert {layer.self_attn.attention_dropout for layer in model.base_model.layers} == {0}


def test_the_mark_that_ends_a_turn_ends_a_message(caplog: pytest.LogCaptureFixture) -> None:
    """Qwen2.5's base models name <|endoftext|>, their template writes <|im_end|>."""
    tokenizer = chats.byte_level(chats.CHATML, chats.CHATML_MARKS, eos="<|endoftext|>")
    model = llama(tokenizer)
    with caplog.at_level(logging.INFO, "ccpo"):
        passed(model, tokenizer)
    assert "'<|im_end|>' ends its messages, which its folder does not name" in caplog.text
    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert policy.end_ids(model, tokenizer) == sorted(ends)


def test_a_turn_that_ends_in_words_is_refused() -> None:
    template = chats.CHATML.replace("<|im_end|>", "\n### ")
    tokenizer = chats.byte_level(template, chats.CHATML_MARKS)
    with pytest.raises(ValueError, match=r"ends a message with '\\n### .* no mark"):
        passed(llama(tokenizer), tokenizer)


@pytest.mark.parametrize("template", [chats.GEMMA, chats.WITHOUT_SYSTEM])
def test_an_instruction_that_the_template_has_no_place_for_stands_in_the_users_turn(
    template: str, caplog: pytest.LogCaptureFixture
) -> None:
    marks = chats.GEMMA_MARKS if "start_of_turn" in template else chats.CHATML_MARKS
    tokenizer = chats.byte_level(template, marks)
    with caplog.at_level(logging.INFO, "ccpo"):
        passed(llama(tokenizer), tokenizer)
    assert "stands at the beginning of the user's turn" in caplog.text


def test_a_template_that_cuts_messages_is_refused() -> None:
    cut = chats.CHATML.replace("{{ m.content }}", "{{ m.content[:1] }}")
    tokenizer = chats.byte_level(cut, chats.CHATML_MARKS, eos="<|im_end|>")
    with pytest.raises(ValueError, match="model m is refused: the chat template drops"):
        passed(llama(tokenizer), tokenizer)


def test_options_of_a_template_are_pinned_or_the_model_is_refused() -> None:
    marks = ("<think>", "</think>")
    fresh = lambda: chats.byte_level(chats.SWITCHABLE, chats.CHATML_MARKS, marks, "<|im_end|>")  # noqa: E731
    tokenizer = fresh()
    with pytest.raises(ValueError, match=r"options enable_thinking.*enable_thinking: false"):
        passed(llama(tokenizer), tokenizer)
    passed(llama(tokenizer), tokenizer, Declared({"enable_thinking": False}))
    chat = [{"role": "user", "content": "x"}]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert text.endswith("<think>\n\n</think>\n\n")
    tokenizer = fresh()
    with pytest.raises(ValueError, match=r"begin with thinking.*thinks: true"):
        passed(llama(tokenizer), tokenizer, Declared({"enable_thinking": True}))
    tokenizer = fresh()
    passed(llama(tokenizer), tokenizer, Declared({"enable_thinking": True}, thinks=True))
    tokenizer = fresh()
    with pytest.raises(ValueError, match=r"knows no option thinking.*may have enable_thinking"):
        passed(llama(tokenizer), tokenizer, Declared({"thinking": False}))


def test_a_model_that_thinks_by_default_says_so() -> None:
    tokenizer = chats.byte_level(
        chats.THINKING, chats.CHATML_MARKS, ("<think>", "</think>"), "<|im_end|>"
    )
    with pytest.raises(ValueError, match="begin with thinking"):
        passed(llama(tokenizer), tokenizer)
    passed(llama(tokenizer), tokenizer, Declared(thinks=True))


def test_a_template_that_writes_the_date_is_refused_until_that_is_pinned() -> None:
    tokenizer = chats.byte_level(chats.DATED, chats.LLAMA_MARKS, eos="<|eot_id|>")
    with pytest.raises(ValueError, match="today's date"):
        passed(llama(tokenizer), tokenizer)
    passed(llama(tokenizer), tokenizer, Declared({"date_string": '26 "Jul" 2024'}))
    text = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert 'Today Date: 26 "Jul" 2024\n' in text


def test_a_tokenizer_without_a_template_is_refused() -> None:
    tokenizer = chats.byte_level("", chats.CHATML_MARKS)
    with pytest.raises(ValueError, match="has no chat template"):
        passed(llama(tokenizer), tokenizer)


def test_a_prepared_folder_has_passed_and_its_options_are_part_of_its_name(tmp_path: Path) -> None:
    """What was pinned is in the folder, whoever loads it; what is refused leaves none."""
    tokenizer = chats.byte_level(
        chats.SWITCHABLE, chats.CHATML_MARKS, ("<think>", "</think>"), "<|im_end|>"
    )
    source = tmp_path / "source"
    policy.save(llama(tokenizer), tokenizer, source)
    spec = {"source": "folder", "path": str(source), "sha256": schema.sha256(source)}
    open_, pinned = (
        Model.model_validate({"name": "q", "spec": {**spec, "template": template}})
        for template in ({}, {"enable_thinking": False})
    )
    assert open_.slug != pinned.slug
    with pytest.raises(ValueError, match="enable_thinking"):
        prepare.prepare(open_, tmp_path / "open")
    assert not (tmp_path / "open").exists()
    prepare.prepare(pinned, tmp_path / "pinned")
    loaded = policy.load(tmp_path / "pinned")[1]
    chat = [{"role": "user", "content": "x"}]
    text = loaded.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert text.endswith("<think>\n\n</think>\n\n")
