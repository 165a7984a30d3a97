"""Tokenizers and chat templates as models have them, built here: small, and of each kind."""

from __future__ import annotations

from typing import Any

from conftest import ROOT
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{% set system = messages[0].content if messages[0].role == 'system' else '' %}{{ bos_token }}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST] "
    "{% if loop.index0 < 2 and system %}{{ system }}\n\n{% endif %}{{ m.content }}[/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
WITHOUT_SYSTEM = (
    "{% for m in messages %}{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SWITCHABLE = CHATML.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
THINKING = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
DATED = LLAMA.replace(
    "{{ bos_token }}",
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
    "{% endif %}{{ bos_token }}Today Date: {{ date_string }}\n",
)

Marks = tuple[str, ...]
CHATML_MARKS: Marks = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA_MARKS: Marks = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
)
GEMMA_MARKS: Marks = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<unused0>")
MISTRAL_MARKS: Marks = ("<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]")


def byte_level(
    template: str,
    special: Marks,
    plain: Marks = (),
    eos: str = "",
    **how: Any,
) -> PreTrainedTokenizerFast:
    """Bytes as tokens, as GPT-2, Llama 3 and Qwen have them; marks that are special, and others
    that are not, added with the options `how`.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    if how.get("normalized"):
        core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return finished(core, template, special, plain, eos or special[0], **how)


def pieces(template: str, special: Marks, plain: Marks = (), **how: Any) -> PreTrainedTokenizerFast:
    """Pieces with a mark for spaces and bytes to fall back on, as Llama 2, Mistral and Gemma have
    them; the marks are pieces of the vocabulary, too.
    """
    letters = "\u2581\nabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?=+-\\{}:"
    entries = [("<unk>", 0.0), *((f"<0x{b:02X}>", -20.0) for b in range(256))]
    entries += [(c, -3.0) for c in letters]
    entries += [(mark, -1.0) for mark in (*special, *plain)]
    core = Tokenizer(models.Unigram(entries, unk_id=0, byte_fallback=True))
    steps = [normalizers.NFKC()] if how.pop("wide", False) else []
    steps += [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    core.normalizer = normalizers.Sequence(steps)
    core.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return finished(core, template, special, plain, special[1], unk_token="<unk>", **how)


def finished(
    core: Tokenizer, template: str, special: Marks, plain: Marks, eos: str, **how: Any
) -> PreTrainedTokenizerFast:
    """A core as transformers has it; the first special mark is its `bos`."""
    named = {"unk_token": how.pop("unk_token")} if "unk_token" in how else {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=special[0], eos_token=eos, pad_token=eos, **named
    )
    options = {"normalized": False, **how}
    tokenizer.add_tokens([AddedToken(m, special=True, **options) for m in special], True)
    tokenizer.add_tokens([AddedToken(m, **options) for m in plain])
    tokenizer.chat_template = template
    return tokenizer


TOKENIZERS = {
    "a pinned base model": lambda: AutoTokenizer.from_pretrained(
        ROOT / "config/base_models/smoke/0"
    ),
    "letters of any width are one": lambda: pieces(GEMMA, GEMMA_MARKS, wide=True),
    "chatml": lambda: byte_level(
        CHATML, CHATML_MARKS, ("<think>", "</think>", "<tool_call>", "</tool_call>"), "<|im_end|>"
    ),
    "llama": lambda: byte_level(LLAMA, LLAMA_MARKS, eos="<|eot_id|>"),
    "gemma": lambda: pieces(GEMMA, GEMMA_MARKS, ("<h1>",)),
    "mistral": lambda: pieces(MISTRAL, MISTRAL_MARKS),
    "no system": lambda: byte_level(WITHOUT_SYSTEM, CHATML_MARKS, eos="<|im_end|>"),
    "marks that take white space along": lambda: byte_level(
        CHATML, CHATML_MARKS, eos="<|im_end|>", lstrip=True, rstrip=True
    ),
    "marks that are not special": lambda: byte_level(
        CHATML, ("<|endoftext|>",), ("<|im_start|>", "<|im_end|>"), eos="<|endoftext|>"
    ),
    "marks in small letters whatever is written": lambda: byte_level(
        CHATML, CHATML_MARKS, eos="<|im_end|>", normalized=True
    ),
    "a mark that does not look like one": lambda: byte_level(
        CHATML.replace("<|im_start|>", "TURN "), CHATML_MARKS, ("TURN ",), "<|im_end|>"
    ),
}
