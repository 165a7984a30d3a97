"""What each kind of model gets at the gate. `python tests/test_gate_kinds.py` prints the list."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import chats
import pytest
import torch
import transformers
from test_gate import SIZES, built, capped, cohere, dropping, gpt2, granite, llama, qwen_like

from ccpo.models import gate, policy
from ccpo.models.gate import Declared

NOTHING = "passes"
INSTRUCTION = "mended: .*no place for an instruction"
END = "mended: .*ends its messages, which its folder does not name"
DROPOUT = "mended: dropout is switched off: .*"


@dataclass(frozen=True)
class Case:
    """A model of some kind: how it is made of a tokenizer, its tokenizer, what models.yaml declares
    of it, and a pattern of what it gets.
    """

    kind: str
    name: str
    wanted: str
    model: Callable[[Any], Any] = llama
    tokenizer: Callable[[], Any] = qwen_like
    declared: Declared = field(default_factory=Declared)


def of(config: str, model: str, **options: Any) -> Callable[[Any], Any]:
    """Makes a small model of a class of transformers."""
    classes = (getattr(transformers, config), getattr(transformers, model))
    return lambda tokenizer: built(*classes, tokenizer, **{**SIZES, **options})


def chat(template: str, marks: chats.Marks = chats.CHATML_MARKS, **options: Any) -> Any:
    """Makes a tokenizer with a template."""
    return lambda: chats.byte_level(template, marks, **options)


def thinking(template: str) -> Callable[[], Any]:
    """Makes a tokenizer with marks of thinking, and a template."""
    marks = ("<think>", "</think>")
    return lambda: chats.byte_level(template, chats.CHATML_MARKS, marks, "<|im_end|>")


def shaken(tokenizer: Any) -> Any:
    """A model whose last norm is shaken while it trains, as some routers are."""
    model = llama(tokenizer)
    model.base_model.norm.register_forward_hook(
        lambda module, _, out: out * (1 + 0.5 * torch.rand_like(out)) if module.training else out
    )
    return model


def scaled_positions(original: int) -> Callable[[Any], Any]:
    """Makes a model whose positions are scaled by the length of a text, as those of Phi-3."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": original,
    }
    return of("LlamaConfig", "LlamaForCausalLM", rope_parameters=rope)


def cut(model: Callable[[Any], Any], rows: int) -> Callable[[Any], Any]:
    """Makes a model with fewer tokens than its tokenizer has."""

    def make(tokenizer: Any) -> Any:
        small = model(tokenizer)
        small.resize_token_embeddings(rows)
        return small

    return make


def words(template: str, old: str, new: str) -> str:
    """A template with something replaced."""
    assert old in template
    return template.replace(old, new)


PINNED_DATE = Declared({"date_string": "26 Jul 2024"})
DATE_IN_WORDS = chats.CHATML.replace("{% for", "{{ strftime_now('%A') }}{% for", 1)
SYSTEM_IN_ENGLISH = (
    "{% for m in messages %}{% if m.role == 'system' and not tools %}"
    "{{ raise_exception('no system prompt') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FIXED_SYSTEM = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LAST_USER_ONLY = (
    "{% for m in messages[-1:] %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BUDGET = chats.THINKING.replace("<think>\n", "{% if not no_think %}<think>\n{% endif %}")
HISTORY = chats.SWITCHABLE.replace(
    "{{ m.content }}", "{{ m.content.split('</think>')[-1].lstrip('\\n') }}"
)
EFFORT = chats.CHATML.replace("{% for", "{% if reasoning %}Think hard.\n{% endif %}{% for", 1)
SOFT_CAP = {
    "head_dim": 8,
    "layer_types": ["full_attention"] * 2,
    "attn_logit_softcapping": 5.0,
}

CASES = [
    Case("what follows the head", "Granite: logits divided by a number", NOTHING, granite),
    Case("what follows the head", "Cohere: logits times a number", NOTHING, cohere),
    Case("what follows the head", "Gemma 2: capped logits", NOTHING, capped),
    Case(
        "what follows the head",
        "Granite with experts",
        NOTHING,
        of("GraniteMoeConfig", "GraniteMoeForCausalLM", logits_scaling=6.0, num_local_experts=4),
    ),
    Case(
        "attention and positions",
        "Gemma 2: capped attention",
        "refused: .*asks for softcap",
        of("Gemma2Config", "Gemma2ForCausalLM", **SOFT_CAP),
    ),
    Case(
        "attention and positions",
        "Mistral: a sliding window",
        "refused: .*a sliding window",
        of("MistralConfig", "MistralForCausalLM", sliding_window=64),
    ),
    Case(
        "attention and positions",
        "Mamba: a recurrence",
        "refused: .*recurrence",
        of("MambaConfig", "MambaForCausalLM"),
    ),
    Case(
        "attention and positions",
        "DiffLlama: attention of its own",
        "refused: .*computes other log-probs than the model's own forward",
        of("DiffLlamaConfig", "DiffLlamaForCausalLM"),
    ),
    Case(
        "attention and positions",
        "Phi-3: positions scaled by length",
        r"refused: .*scaled by the length .*max_position_embeddings: 128",
        scaled_positions(128),
    ),
    Case(
        "attention and positions",
        "the same, cut to its first context",
        NOTHING,
        scaled_positions(SIZES["max_position_embeddings"]),
    ),
    Case("training mode", "GPT-2: three dropouts", DROPOUT + "attn_pdrop.*embd_pdrop", gpt2),
    Case("training mode", "Llama: attention_dropout", DROPOUT + "attention_dropout", dropping),
    Case(
        "training mode",
        "Seed-OSS: residual_dropout",
        DROPOUT + "residual_dropout",
        of("SeedOssConfig", "SeedOssForCausalLM", residual_dropout=0.2),
    ),
    Case(
        "training mode",
        "OPT: layers that are left out",
        "refused|mended",
        of("OPTConfig", "OPTForCausalLM", layerdrop=0.5, ffn_dim=16, dropout=0.2),
    ),
    Case(
        "training mode",
        "noise that is not called dropout",
        "refused: .*the trainer computes other log-probs",
        shaken,
    ),
    Case("instructions", "a system message", NOTHING),
    Case(
        "instructions",
        "Gemma: a system message is refused",
        INSTRUCTION,
        tokenizer=chat(chats.GEMMA, chats.GEMMA_MARKS),
    ),
    Case(
        "instructions",
        "a system message is dropped",
        INSTRUCTION,
        tokenizer=chat(chats.WITHOUT_SYSTEM, eos="<|im_end|>"),
    ),
    Case(
        "instructions",
        "a system message is refused, without alternation",
        INSTRUCTION,
        tokenizer=chat(SYSTEM_IN_ENGLISH, eos="<|im_end|>"),
    ),
    Case(
        "instructions",
        "one of its own in place of the system message",
        INSTRUCTION,
        tokenizer=chat(FIXED_SYSTEM, eos="<|im_end|>"),
    ),
    Case(
        "instructions",
        "messages are cut",
        "refused: .*drops",
        tokenizer=chat(
            words(chats.CHATML, "{{ m.content }}", "{{ m.content[:1] }}"), eos="<|im_end|>"
        ),
    ),
    Case(
        "instructions",
        "the last message alone",
        "refused: .*drops",
        tokenizer=chat(LAST_USER_ONLY, eos="<|im_end|>"),
    ),
    Case("instructions", "no template", "refused: .*no chat template", tokenizer=chat("")),
    Case(
        "end of a turn",
        "Qwen2.5 base: <|endoftext|> is named, <|im_end|> written",
        END,
        tokenizer=chat(chats.CHATML, eos="<|endoftext|>"),
    ),
    Case(
        "end of a turn",
        "Llama 3 base: <|end_of_text|> is named, <|eot_id|> written",
        END,
        tokenizer=chat(chats.LLAMA, chats.LLAMA_MARKS, eos="<|end_of_text|>"),
    ),
    Case(
        "end of a turn",
        "Gemma: <eos> is named, <end_of_turn> written",
        END,
        tokenizer=chat(chats.GEMMA, chats.GEMMA_MARKS, eos="<eos>"),
    ),
    Case(
        "end of a turn",
        "words end it",
        "refused: .*no mark of its tokenizer",
        tokenizer=chat(words(chats.CHATML, "<|im_end|>", "\n### ")),
    ),
    Case(
        "end of a turn",
        "nothing ends it",
        "refused: .*no mark of its tokenizer",
        tokenizer=chat(words(chats.CHATML, "<|im_end|>\n", "")),
    ),
    Case(
        "thinking and options",
        "Qwen3: enable_thinking is left open",
        "refused: .*enable_thinking",
        tokenizer=thinking(chats.SWITCHABLE),
    ),
    Case(
        "thinking and options",
        "enable_thinking: false",
        NOTHING,
        tokenizer=thinking(chats.SWITCHABLE),
        declared=Declared({"enable_thinking": False}),
    ),
    Case(
        "thinking and options",
        "enable_thinking: true, thinks: true",
        NOTHING,
        tokenizer=thinking(chats.SWITCHABLE),
        declared=Declared({"enable_thinking": True}, thinks=True),
    ),
    Case(
        "thinking and options",
        "thinks by default (R1)",
        "refused: .*begin with thinking",
        tokenizer=thinking(chats.THINKING),
    ),
    Case(
        "thinking and options",
        "thinks by default, thinks: true",
        NOTHING,
        tokenizer=thinking(chats.THINKING),
        declared=Declared(thinks=True),
    ),
    Case(
        "thinking and options",
        "thinks unless no_think is set",
        "refused: .*no_think",
        tokenizer=thinking(BUDGET),
    ),
    Case(
        "thinking and options",
        "thinking is taken out of earlier turns",
        NOTHING,
        tokenizer=thinking(HISTORY),
        declared=Declared({"enable_thinking": False}),
    ),
    Case(
        "thinking and options",
        "an option that asks for effort",
        "refused: .*reasoning",
        tokenizer=chat(EFFORT, eos="<|im_end|>"),
    ),
    Case(
        "thinking and options",
        "Llama 3: today's date",
        "refused: .*today's date",
        tokenizer=chat(chats.DATED, chats.LLAMA_MARKS, eos="<|eot_id|>"),
    ),
    Case(
        "thinking and options",
        "Llama 3: the date is pinned",
        NOTHING,
        tokenizer=chat(chats.DATED, chats.LLAMA_MARKS, eos="<|eot_id|>"),
        declared=PINNED_DATE,
    ),
    Case(
        "thinking and options",
        "the day of the week, without an option",
        "refused: .*today's date",
        tokenizer=chat(DATE_IN_WORDS, eos="<|im_end|>"),
    ),
    Case(
        "thinking and options",
        "an option that it does not have",
        "refused: .*knows no option",
        declared=Declared({"enable_thinking": False}),
    ),
    Case(
        "weights and tokens",
        "more tokens than weights",
        "refused: .*it has weights for 100",
        cut(llama, 100),
    ),
    Case(
        "weights and tokens",
        "MiniCPM3: keys and values of two sizes",
        "refused: .*cannot be computed with",
        of("MiniCPM3Config", "MiniCPM3ForCausalLM"),
    ),
]


class _Notes(logging.Handler):
    """Collects what the gate tells."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage().removeprefix("model m: "))


def verdict(case: Case) -> str:
    """What a case gets: "passes", "mended: ..." or "refused: ..."."""
    log = logging.getLogger("ccpo")
    notes = _Notes()
    level = log.level
    log.addHandler(notes)
    log.setLevel(logging.INFO)
    try:
        tokenizer = case.tokenizer()
        model = case.model(tokenizer)
        policy.attention.prepare(model)
        gate.pass_gate("m", model, tokenizer, case.declared)
    except ValueError as error:
        return "refused: " + str(error).removeprefix("model m is refused: ")
    finally:
        log.removeHandler(notes)
        log.setLevel(level)
    return f"mended: {'; '.join(notes.lines)}" if notes.lines else "passes"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_every_kind_of_model_gets_its_verdict(case: Case) -> None:
    import re

    assert re.match(case.wanted, verdict(case), re.DOTALL)


def main() -> None:
    """Prints each kind, and what its models get."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    kind = ""
    for case in CASES:
        if case.kind != kind:
            kind = case.kind
            print(f"\n{kind}")
        print(f"  {case.name}\n      {verdict(case)}")


if __name__ == "__main__":
    sys.exit(main())
