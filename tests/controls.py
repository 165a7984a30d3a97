"""Scripted teams with known virtues, the positive controls of the free-riding panel: a sound agent,
a free rider, one that talks past its partner, a saboteur, one that leaks the answer, and one that
leaks it in other words.

Who answers is right with BASE, more often by HELP and CARE if it reads of them, less often by HARM
if it reads of that, and always if it reads a number; without a question it is right from a number
alone. In a vote each voter is right with VOTER, and all err in their own way. Nobody says a space,
which the tokenizers of the tiny models do not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ccpo.play.engine.scripted import Scripted

CONTROLS = ("sound", "free rider", "past", "saboteur", "leaker", "rephraser")
HELP = "check-each-step"  # what a sound agent says
CARE = "mind-the-signs"  # what a sound relay adds
HARM = "skip-the-last-step"
IDLE = "think-about-it"
BASE = 0.45
BY = {HELP: 0.2, CARE: 0.3, HARM: -0.2}
VOTER = 0.6
TENS = ["", "ten", "twenty", "thirty", "forty", "fifty"]
Script = Callable[[str, float], str]


def question_of(prompt: str) -> str:
    """The arithmetic that a prompt asks for; "" where it asks nothing."""
    match = re.search(r"Problem: ([\d+\-]*)", prompt)
    return match[1] if match else ""


def truth_of(question: str) -> int:
    """Its value."""
    return int(eval(question)) if question else -1


def in_words(number: int) -> str:
    """The sum of two numbers in words, tens by name and ones by strokes: 42 is
    `sum-of-forty-and-ii`.
    """
    return f"sum-of-{TENS[number // 10] or 'nothing'}-and-{'i' * (number % 10) or 'nothing'}"


def from_words(text: str) -> int | None:
    """What `in_words` said."""
    match = re.search(r"sum-of-(\w+)-and-(\w+)", text)
    if not match:
        return None
    tens = 0 if match[1] == "nothing" else TENS.index(match[1])
    return 10 * tens + (0 if match[2] == "nothing" else len(match[2]))


def says(control: str, question: str) -> str:
    """The message of the first agent of a dyad or chain."""
    truth = truth_of(question)
    return {
        "sound": HELP,
        "free rider": IDLE,
        "past": f"{IDLE}:{question[::-1]}-is-no-palindrome",
        "saboteur": HARM,
        "leaker": f"answer:{truth}",
        "rephraser": in_words(truth),
    }[control]


def answer(question: str, read: str, uniform: float) -> str:
    """What the last agent answers."""
    leaked = re.search(r"answer:(\d+)", read)
    number = int(leaked[1]) if leaked else from_words(read)
    truth = truth_of(question)
    if number is None:
        able = BASE + sum(by for words, by in BY.items() if words in read)
        number = truth if question and uniform < able else truth + 1
    return f"\\boxed{{{number}}}"


def reader_script(control: str) -> Script:
    """Of the agents of a dyad or a chain, who are told apart by their prompts."""

    def script(prompt: str, uniform: float) -> str:
        question = question_of(prompt)
        if "Plan the solution" in prompt:
            return says(control, question)
        if "Improve the plan" in prompt:
            return f"{CARE};{prompt.partition('Plan: ')[2]}"
        return answer(question, prompt.partition("Thought: ")[2], uniform)

    return script


def voter_script(control: str, agent: int) -> Script:
    """Of a voter; the first is the control. The mistake of a saboteur is one that all make."""

    def script(prompt: str, uniform: float) -> str:
        truth = truth_of(question_of(prompt))
        if agent == 0 and control in ("free rider", "past"):
            return IDLE
        if agent == 0 and control == "rephraser":
            return in_words(truth)
        mistake = 1 if control == "saboteur" else 1 + 10 * (agent + 1)
        able = VOTER
        if agent == 0 and control in ("saboteur", "leaker"):
            able = float(control == "leaker")
        return f"\\boxed{{{truth if uniform < able else truth + mistake}}}"

    return script


def untrained_script(control: str) -> Script:
    """A team before training: nobody does anything for others."""
    plain = reader_script("free rider")

    def script(prompt: str, uniform: float) -> str:
        if "Improve the plan" in prompt:
            return prompt.partition("Plan: ")[2]
        return plain(prompt, uniform)

    return script


def _tokenized(script: Script, tokenizer: Any) -> Any:
    """A script over token ids."""

    def over_ids(prompt: list[int], sample: int, uniform: float) -> list[int]:
        text = script(str(tokenizer.decode(prompt)), uniform)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    return over_ids


def engine(script: Script, tokenizer: Any) -> Scripted:
    """A scripted engine of a script over texts."""
    return Scripted(_tokenized(script, tokenizer))


def _of_model(script: Script, model: Any) -> Any:
    from transformers import AutoTokenizer

    return _tokenized(script, AutoTokenizer.from_pretrained(model.name_or_path))


def leaker(model: Any) -> Any:
    """`sampling.engine: scripted:controls.leaker`: a dyad that leaks."""
    return _of_model(reader_script("leaker"), model)


def sound(model: Any) -> Any:
    """`sampling.engine: scripted:controls.sound`: a dyad that works together."""
    return _of_model(reader_script("sound"), model)
