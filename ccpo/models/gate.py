"""The gate that a model passes when it is prepared, before any training.

Its template writes every role's instruction, ends a turn with a token that ends a message, and
depends on nothing that is not pinned; engine and trainer compute what the model's own forward
computes. A model that fails is refused with the reason; what could be mended is told.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ccpo import team
from ccpo.grade import BOXED
from ccpo.models import policy
from ccpo.play.engine import attention
from ccpo.play.engine.hf import HF
from ccpo.play.engine.prefix import find_shared
from ccpo.play.prompts import ChatFormat
from ccpo.team import chat

log = logging.getLogger("ccpo")

# Largest difference of log-probs of the same weights: float32 adds up in other orders (5e-5 seen on
# SmolLM2-135M), bfloat16 has 8 bits.
GAP = {"float32": 2e-3, "bfloat16": 0.5}
# kinds of rotary positions that transformers scales anew for each text that it computes
SCALED_BY_LENGTH = ("dynamic", "longrope")
QUESTION = "What is 2+2?"
REPLY = "2+2=4"

Option = bool | int | str
# what transformers or a caller gives every template, and what is for tools and documents
_GIVEN = re.compile(
    r"messages|add_generation_prompt|.*_token|.*tool.*|.*document.*|.*citation.*|.*date.*"
)
_BLOCK = re.compile(r"\{[{%].*?[}%]\}", re.DOTALL)
_NAME = re.compile(r"(?<![\w.'\"|])(?<!\|\s)([a-z_][a-z0-9_]*)\b(?!\s*\()")
_CLOCK = "\ue002"


@dataclass(frozen=True)
class Declared:
    """What models.yaml declares of a model: template options that are pinned, and whether its
    messages begin with thinking.
    """

    template: Mapping[str, Option] = field(default_factory=dict)
    thinks: bool = False


def pass_gate(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, declared: Declared
) -> None:
    """Pins the template's options in the tokenizer, mends what can be mended and tells it.

    Raises:
        ValueError: the model fails; with the reason and the remedy.
    """
    try:
        pin_options(tokenizer, declared.template)
        notes = [*check_chat(tokenizer, declared), *check_ends(model, tokenizer)]
        if dropouts := policy.switch_off_dropout(model):
            notes.append(f"dropout is switched off: {', '.join(dropouts)}")
        check_positions(model)
        check_numbers(model, tokenizer)
    except ValueError as error:
        raise ValueError(f"model {name} is refused: {error}") from None
    except (TypeError, RuntimeError, LookupError, AttributeError) as error:
        raise ValueError(
            f"model {name} is refused: a {model.config.model_type} cannot be computed with here "
            f"({type(error).__name__}: {error}). Remedy: a Llama, Qwen2.5 or Qwen3."
        ) from error
    for note in notes:
        log.info("model %s: %s", name, note)


def pin_options(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Option]) -> None:
    """Writes options into the chat template, so that whoever loads it has them.

    Raises:
        ValueError: there is no template, or it does not know an option.
    """
    template = _template(tokenizer)
    for name in options:
        if not re.search(rf"\b{re.escape(name)}\b", template):
            known = open_options(tokenizer)
            raise ValueError(
                f"its chat template knows no option {name}. Remedy: in models.yaml, `template` of "
                f"this model may have {', '.join(known) or 'nothing'}."
            )
    pinned = (f"{{% set {name} = {json.dumps(value)} %}}" for name, value in options.items())
    tokenizer.chat_template = "".join(pinned) + template


def check_chat(tokenizer: PreTrainedTokenizerBase, declared: Declared) -> list[str]:
    """What is to be told about its chat template.

    Raises:
        ValueError: a role's instruction or question is not in its prompt; the prompt depends on the
        clock, or on options that are not pinned; or the model thinks, and that is not declared.
    """
    form = ChatFormat(tokenizer)
    _check_instructions(form)
    if reads_clock(tokenizer):
        raise ValueError(
            "its chat template writes today's date, so that prompts differ from day to day. "
            'Remedy: in models.yaml, template: {date_string: "26 Jul 2024"} (or the name that the '
            "template has for it)."
        )
    if options := [n for n in open_options(tokenizer) if n not in declared.template]:
        pins = ", ".join(f"{name}: false" for name in options)
        raise ValueError(
            f"its prompts depend on the template's options {', '.join(options)}, which nothing "
            f"pins. Remedy: in models.yaml, template: {{{pins}}} (or another value)."
        )
    thinking = [n for n, value in declared.template.items() if "think" in n and value]
    if (form.opened_thinking or thinking) and not declared.thinks:
        raise ValueError(
            "its messages begin with thinking. Remedy: in models.yaml, thinks: true (and enough "
            "max_tokens to finish), or a template option that switches it off."
        )
    if form.system_in_user_turn:
        return [
            "its chat template has no place for an instruction, which therefore stands at the "
            "beginning of the user's turn"
        ]
    return []


def _check_instructions(form: ChatFormat) -> None:
    """Refuses a template that does not write a role's instruction and question as they are."""
    for name in team.names():
        for role_name, role in team.load(name).team().roles.items():
            text = form.render(chat(role, QUESTION, [REPLY]))
            for part in (role.instruct(BOXED), QUESTION):
                if part not in text:
                    raise ValueError(
                        f"the prompt of role {role_name} of team {name} does not contain {part!r}: "
                        "its chat template alters what it writes. Remedy: another model, or "
                        "another template."
                    )


def check_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What is to be told about the tokens that end a message.

    Raises:
        ValueError: no token ends one.
    """
    form = ChatFormat(tokenizer)
    if form.end_id is None:
        raise ValueError(
            f"its chat template ends a message with {form.end_of_turn!r}, which is no mark of its "
            "tokenizer, so that nothing would end a message. Remedy: another model, or a template "
            "that ends a message with a special token."
        )
    configured = model.generation_config.eos_token_id
    named = configured if isinstance(configured, list) else [configured]
    if form.end_id in {tokenizer.eos_token_id, *named}:
        return []
    return [f"{form.marks[form.end_id]!r} ends its messages, which its folder does not name"]


def check_positions(model: PreTrainedModel) -> None:
    """Nothing, or:

    Raises:
        ValueError: what it makes of a token's position depends on how long the text is that the
        token is computed with, which is not the same for trainer and engine.
    """
    rope = getattr(model.config, "rope_parameters", None) or {}
    context = int(model.config.max_position_embeddings)
    # one for all layers, or one for each kind of layer
    for options in (rope, *(part for part in rope.values() if isinstance(part, Mapping))):
        original = options.get("original_max_position_embeddings") or context
        if options.get("rope_type") in SCALED_BY_LENGTH and original < context:
            raise ValueError(
                f"its positions ({options['rope_type']}) are scaled by the length of a text beyond "
                f"{original} tokens, so that what was computed before no longer holds. Remedy: a "
                f"folder of it whose config.json has max_position_embeddings: {original}."
            )


def check_numbers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Compares the log-probs of replies by the model's own full forward with those of the trainer,
    in training mode, and of the engine.

    Raises:
        ValueError: they differ, or are no numbers.
    """
    form = ChatFormat(tokenizer)
    reply = list(tokenizer.encode(REPLY, add_special_tokens=False))[:4]
    room = int(model.config.max_position_embeddings) - len(reply)
    roles = [role for name in ("single", "think_solve") for role in _roles(name)]
    prompts = [form.encode(chat(role, QUESTION, [REPLY]))[-room:] for role in roles]
    replies = [reply[: 1 + i % len(reply)] for i in range(len(prompts))]
    rows_of_weights = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    if (largest := max(map(max, prompts + replies))) >= rows_of_weights:
        raise ValueError(
            f"its tokenizer gives token {largest}, and it has weights for {rows_of_weights}. "
            "Remedy: the tokenizer that belongs to the model."
        )
    _compare(model, policy.end_ids(model, tokenizer), prompts, replies)


def _compare(
    model: PreTrainedModel, end_ids: list[int], prompts: list[list[int]], replies: list[list[int]]
) -> None:
    """Log-probs of the replies by the model's own forward, and by trainer and engine."""
    own = _own_forward(model, prompts, replies)
    training = model.training
    model.train()
    with torch.no_grad():
        shared = find_shared(prompts)
        trainer, mask, _ = policy.completion_logprobs(model, prompts, replies, 1.0, shared)
    model.train(training)
    engine = HF(model, end_ids).logprobs(prompts, replies, 1.0)
    rows = zip(trainer.cpu(), mask.cpu(), strict=True)
    compared = {"the trainer": [row[m].tolist() for row, m in rows], "the engine": engine}
    for who, logprobs in compared.items():
        gap = max(
            float((torch.tensor(a) - torch.tensor(b)).abs().max().nan_to_num(torch.inf))
            for a, b in zip(own, logprobs, strict=True)
        )
        allowed = GAP[str(model.dtype).removeprefix("torch.")]
        if not gap <= allowed:
            raise ValueError(
                f"{who} computes other log-probs than the model's own forward, by {gap:.3g} "
                f"(allowed {allowed}): a {model.config.model_type} does something that is not "
                "known here. Remedy: a Llama, Qwen2.5 or Qwen3."
            )


def _roles(name: str) -> list[team.Role]:
    return list(team.load(name).team().roles.values())


@torch.no_grad()
def _own_forward(
    model: PreTrainedModel, prompts: list[list[int]], replies: list[list[int]]
) -> list[list[float]]:
    """Log-probs of the replies' tokens, row by row, by transformers' attention and evaluation
    mode.
    """
    training = model.training
    model.eval()
    model.set_attn_implementation("eager")
    rows = []
    for prompt, reply in zip(prompts, replies, strict=True):
        token_ids = torch.tensor([prompt + reply], device=model.device)
        logits = model(input_ids=token_ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        full = torch.log_softmax(logits.float(), -1)
        rows.append([float(full[i, token]) for i, token in enumerate(reply)])
    attention.prepare(model)
    model.train(training)
    return rows


def reads_clock(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a prompt holds what the clock says."""
    clock = f"{{% macro strftime_now(form) %}}{_CLOCK}{{% endmacro %}}"
    return _CLOCK in _rendered(tokenizer, clock)


def open_options(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Names that change the prompt when they are set before the template: its options that are not
    pinned. Those of tools, documents and dates are left out.
    """
    blocks = " ".join(_BLOCK.findall(_template(tokenizer)))
    names = sorted({n for n in _NAME.findall(blocks) if not _GIVEN.fullmatch(n)})
    usual = _rendered(tokenizer, "")
    return [
        name
        for name in names
        if any(
            _rendered(tokenizer, f"{{% set {name} = {value} %}}", usual) != usual
            for value in ("true", "false")
        )
    ]


def _rendered(tokenizer: PreTrainedTokenizerBase, before: str, otherwise: str | None = None) -> str:
    """A prompt by the template with something set before it; `otherwise` where that raises."""
    role = team.SOLO
    form = ChatFormat(tokenizer)
    messages = chat(role, QUESTION, [])
    if form.system_in_user_turn:
        messages = [{"role": "user", "content": QUESTION}]
    render: Callable[..., object] = tokenizer.apply_chat_template
    try:
        return str(
            render(
                messages,
                chat_template=before + _template(tokenizer),
                add_generation_prompt=True,
                tokenize=False,
            )
        )
    except Exception:  # whatever a template raises
        if otherwise is None:
            raise
        return otherwise


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    """Its chat template.

    Raises:
        ValueError: it has none.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not isinstance(template, str) or not template:
        raise ValueError(
            "its tokenizer has no chat template, so that nothing tells how roles are asked. "
            "Remedy: the instruct model of the family."
        )
    return template
