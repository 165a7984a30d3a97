"""Chat messages as token ids: a tokenizer's template writes the marks, and nothing else can.

What comes from a task, a role or another agent is text, whatever it spells: a message that spells
the template's end of turn and the start of another would otherwise open a turn that nobody wrote,
and training could learn to use that.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ccpo.grade.thinking import MARK as thinking_marks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# stands for a message while the template is rendered; private characters, of no meaning anywhere
_PLACEHOLDER = "\ue000{}\ue001"
_PLACED = re.compile("\ue000(\\d+)\ue001")
# how marks are spelled: <|im_end|>, [INST], </think>
_MARK = re.compile(r"\s*(<.*>|\[.*\])\s*", re.DOTALL)


@dataclass(frozen=True)
class _Rendered:
    """A rendered chat, where in it contents stand (character ranges), and of how many messages."""

    text: str
    contents: list[tuple[int, int]]
    messages: int

    def inside(self, start: int, end: int) -> bool:
        """Whether a range holds more than white space of a content."""
        return any(self.text[max(start, a) : min(end, b)].strip() for a, b in self.contents)

    def blanked(self, start: int, end: int) -> _Rendered:
        """With white space for what a range holds of contents: a mark that cannot be cut."""
        text = list(self.text)
        for a, b in self.contents:
            first = max(start, a)
            after = max(first, min(end, b))
            text[first:after] = " " * (after - first)
        return replace(self, text="".join(text))


class ChatFormat:
    """How a tokenizer writes chat messages.

    Raises:
        ValueError: the tokenizer does not tell where in a text its tokens stand, or its template
        drops a user's message.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        if not tokenizer.is_fast:
            raise ValueError(
                f"tokenizer {type(tokenizer).__name__} does not tell where its tokens stand in a "
                "text, so that marks in a message could not be found. Remedy: a model with a fast "
                "tokenizer (tokenizer.json)."
            )

    @functools.cached_property
    def system_in_user_turn(self) -> bool:
        """Whether an instruction goes into the first user's message: the template drops or refuses
        a system message.
        """
        try:
            rendered = self._render([_message("system", "s"), _message("user", "u")], True)
        except _TemplateError:
            return True
        return rendered.messages < 2

    @functools.cached_property
    def special(self) -> set[int]:
        """Tokens that no text shows: those of a name (end, padding), and those added as special."""
        added = self.tokenizer.added_tokens_decoder
        named = set(self.tokenizer.all_special_ids)
        return named | {number for number, token in added.items() if token.special}

    @functools.cached_property
    def marks(self) -> Mapping[int, str]:
        """Tokens that a text must not become, with their spelling: special ones, those that look
        like marks, those that the template names.
        """
        template = str(self.tokenizer.chat_template or "")
        return {
            number: token.content
            for number, token in self.tokenizer.added_tokens_decoder.items()
            if number in self.special
            or _MARK.fullmatch(token.content)
            or (token.content.strip() and token.content in template)
        }

    @functools.cached_property
    def end_of_turn(self) -> str:
        """What the template writes behind an assistant's message.

        Raises:
            ValueError: it drops the message.
        """
        chat = [_message("user", "u"), _message("assistant", "a")]
        rendered = self._render(chat, generation=False)
        if rendered.messages < 2:
            raise ValueError(
                "the chat template drops an assistant's message, so that nothing tells how one "
                "ends. Remedy: a model whose template writes user and assistant messages."
            )
        return rendered.text[rendered.contents[-1][1] :]

    @functools.cached_property
    def end_id(self) -> int | None:
        """The mark that ends an assistant's message; None where that is no single token."""
        token_ids = self._tokenize(self.end_of_turn.lstrip())[0]
        return token_ids[0] if token_ids and token_ids[0] in self.marks else None

    @functools.cached_property
    def opened_thinking(self) -> str:
        """The mark of a block of thinking that the template has opened where a message begins; ""
        where it has opened none.
        """
        rendered = self._render([_message("user", "u")], generation=True)
        opening = rendered.text[rendered.contents[-1][1] :]
        thinking = list(thinking_marks.finditer(opening))
        return thinking[-1][0] if thinking and not thinking[-1][1] else ""

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The chat as text, with what makes the model answer.

        Raises:
            ValueError: the template drops a message, or refuses the chat.
        """
        return self._complete(messages).text

    def encode(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a chat, with what makes the model answer. The marks among them are the
        template's.

        Raises:
            ValueError: as `render`.
        """
        rendered = self._complete(messages)
        cuts: set[int] = set()
        while True:
            pieces = list(self._pieces(rendered.text, cuts))
            forged = [
                (start, end)
                for token_ids, offsets in pieces
                for number, (start, end) in zip(token_ids, offsets, strict=True)
                if self._is_forged(rendered, number, start, end)
            ]
            if not forged:
                return [number for token_ids, _ in pieces for number in token_ids]
            for start, end in forged:
                if end - start > 1 and start + 1 not in cuts:
                    cuts.add(start + 1)  # a mark that is cut in two is text
                else:
                    rendered = rendered.blanked(start, end)

    def text(self, token_ids: Sequence[int]) -> str:
        """A message's tokens as text, without special tokens but those around thinking."""
        thinking = {i for i, s in self.marks.items() if thinking_marks.fullmatch(s.strip())}
        if thinking & self.special:
            kept = [i for i in token_ids if i not in self.special or i in thinking]
            text = str(self.tokenizer.decode(kept, skip_special_tokens=False))
        else:
            text = str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))
        return self.opened_thinking + text

    def _complete(self, messages: Sequence[Mapping[str, str]]) -> _Rendered:
        """A chat of which nothing is dropped."""
        chat = list(messages)
        if chat[0]["role"] == "system" and self.system_in_user_turn:
            system, user, *others = chat
            chat = [_message("user", f"{system['content']}\n\n{user['content']}"), *others]
        try:
            rendered = self._render(chat, generation=True)
        except _TemplateError as error:
            raise ValueError(f"the chat template refuses the chat: {error}") from None
        if rendered.messages < len(chat):
            roles = ", ".join(message["role"] for message in chat)
            raise ValueError(
                f"the chat template drops a message of a chat of {roles}. Remedy: a model whose "
                "template writes user and assistant messages."
            )
        return rendered

    def _render(self, messages: Sequence[Mapping[str, str]], generation: bool) -> _Rendered:
        """The chat, each message's own white space left to the template to trim."""
        contents = []
        chat = []
        for number, message in enumerate(messages):
            content = message["content"]
            core = content.strip()
            before, after = content.split(core, 1) if core else (content, "")
            contents.append(core)
            chat.append({**message, "content": before + _PLACEHOLDER.format(number) + after})
        try:
            skeleton = str(
                self.tokenizer.apply_chat_template(
                    chat, add_generation_prompt=generation, tokenize=False
                )
            )
        except Exception as error:  # whatever a template raises; jinja's own errors are not public
            raise _TemplateError(f"{type(error).__name__}: {error}") from error
        text = ""
        end = 0
        places = []
        for match in _PLACED.finditer(skeleton):
            text += skeleton[end : match.start()]
            content = contents[int(match[1])]
            places.append((len(text), len(text) + len(content)))
            text += content
            end = match.end()
        written = len(set(_PLACED.findall(skeleton)))
        return _Rendered(text + skeleton[end:], places, written)

    def _pieces(
        self, text: str, cuts: set[int]
    ) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
        """Token ids, and where in the text they stand, of each piece between cuts."""
        bounds = [0, *sorted(cuts), len(text)]
        for start, end in itertools.pairwise(bounds):
            token_ids, offsets = self._tokenize(text[start:end])
            yield token_ids, [(start + a, start + b) for a, b in offsets]

    def _tokenize(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(encoded["input_ids"]), list(encoded["offset_mapping"])

    def _is_forged(self, rendered: _Rendered, number: int, start: int, end: int) -> bool:
        """Whether a token is a mark that a content spells. What no token spells is `unknown`,
        which is one only where it is spelled.
        """
        if number not in self.marks or not rendered.inside(start, end):
            return False
        spelled = self.marks[number].strip() == rendered.text[start:end].strip()
        return spelled or number != self.tokenizer.unk_token_id


class _TemplateError(Exception):
    """A chat template raised."""


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
