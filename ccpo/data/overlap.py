"""Test items among the training items: found, counted, and refused or left out before a training
begins.

Four ways in which a training item is a test item, from the surest to the loosest:
  origin      both say they are a copy of one item
  exact       equal text
  normalised  equal after what typesetting varies is taken away: Unicode form, case, white space,
              `$`, \\left and \\right, LaTeX spacing,
              \\dfrac and \\tfrac for \\frac, final punctuation. Operators stay: z^4+z^2+1 is not
                  z^4-z^2+1
  near        the same numbers, operators, brackets, LaTeX commands and variables (single letters,
              points as AB) in the same order, words
              that are alike, and in the sentences that ask the same words; small words as "the" are
                  not counted. One story asks for a
              sum here, for a difference there. Texts without numbers and symbols are not compared
                  so: one word makes another question
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import logging
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from ccpo import schema
from ccpo.benchmark import Task
from ccpo.config import RunConfig
from ccpo.data.tables import read_tasks

log = logging.getLogger("ccpo")

WAYS = ("origin", "exact", "normalised", "near")
# least similarity of the words of two texts (2 x those in common and in order / all), as a whole
# and at their ends
ALIKE = 0.8
# words: what is peculiar to a question, as its options, stands at the end, after a passage that
# neighbours share
END = 30

_HAN = "\u3400-\u9fff"  # each of these characters is a word
_LETTER = f"[^\\W\\d_{_HAN}]"
_TYPESETTING = re.compile(
    r"\\left(?![A-Za-z])|\\right(?![A-Za-z])|\\q?quad(?![A-Za-z])|\\[,;:! ]|[$~]|\s"
)
_TOKEN = re.compile(
    rf"(?P<symbol>\d+(?:[.,:]\d+)*|\\[A-Za-z]+|[A-Z]{{2,}}(?!{_LETTER})"
    rf"|(?<!{_LETTER}){_LETTER}(?!['’]?{_LETTER})|[+*/=<>^_|!%×÷·±≤≥≠∈∪∩√∞→°&]"
    rf"|-(?!{_LETTER}{{2}})|[(\[{{](?!{_LETTER}{{2}})|(?<!{_LETTER}{{2}})[)\]}}])"
    rf"|(?P<word>[{_HAN}]|{_LETTER}{{2,}}(?:['’-]{_LETTER}+)*)"
)
_SHORT = re.compile(r"(\\frac|\\sqrt)\s*(\d)")  # \frac12 is \frac{1}{2}
_BRACED = re.compile(r"\{\s*(\w)\s*\}")
_SENTENCE = re.compile(r"(?:[^.?!。？！\n]|\.(?!\s|$))+[.?!。？！\n]?")
_ASKS = re.compile(
    r"[?？]|\b(?i:find|compute|calculate|determine|evaluate|express|simplify|solve|factor|expand|"
    r"prove|write|give|what|how many)\b"
)
_SMALL = frozenset(
    re.findall(
        r"\w+",
        "an the this that these those there is are was were be been do does did has have had "
        "will would can could it its of in on at to "
        "for with by from as so then if please what find compute calculate determine evaluate "
        "value answer",
    )
)
# "a dog", "I have": words; "a + b", "a_1": variables
_ARTICLE = re.compile(rf"\b[AaI](?=\s+{_LETTER}{{2}})")


@dataclass(frozen=True)
class Overlap:
    """A training item that is a test item, and one way (of WAYS) in which it is. A pair may have
    two: `origin`, and one of the text.
    """

    train_id: str
    test_id: str
    how: str


def _plain(text: str) -> str:
    return (
        unicodedata.normalize("NFKC", text)
        .replace("\u2212", "-")
        .replace("\\dfrac", "\\frac")
        .replace("\\tfrac", "\\frac")
    )


@functools.lru_cache(maxsize=1 << 17)
def normalised(text: str) -> str:
    """The text without what typesetting varies; operators, digits, letters and inner punctuation
    stay.
    """
    return _TYPESETTING.sub("", _plain(text)).lower().rstrip(".,;:?。，；：、")


@dataclass(frozen=True)
class Reading:
    """A text as `near` compares it: its numbers and symbols, its words but the small ones, and
    those of the sentences that ask.
    """

    symbols: tuple[str, ...]
    words: tuple[str, ...]
    asked: tuple[str, ...]


@functools.lru_cache(maxsize=1 << 17)
def reading(text: str) -> Reading:
    """What `near` compares. {x} around a single character is read as that character; a Chinese
    character is a word.
    """
    plain = _plain(text)
    asking = [part for part in _SENTENCE.findall(plain) if _ASKS.search(part)] or [plain]
    return Reading(tuple(_tokens(plain, "symbol")), _words(plain), _words(" ".join(asking)))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in _tokens(text, "word") if word not in _SMALL)


def _tokens(text: str, kind: str) -> Iterator[str]:
    text = _ARTICLE.sub(
        " ", _BRACED.sub(r" \1 ", _SHORT.sub(r"\1 \2 ", _TYPESETTING.sub(" ", text)))
    )
    return (
        found[0].lower() if kind == "word" else found[0]
        for found in _TOKEN.finditer(text)
        if found.lastgroup == kind
    )


def _alike(a: Reading, b: Reading) -> bool:
    return (
        a.asked == b.asked
        and _similar(a.words, b.words)
        and _similar(a.words[-END:], b.words[-END:])
    )


def _similar(a: Sequence[str], b: Sequence[str]) -> bool:
    # words that could be in common: nearly all pairs end here
    most = min(len(a) - len({*a} - {*b}), len(b) - len({*b} - {*a}))
    if 2 * most < ALIKE * (len(a) + len(b)):
        return False
    return SequenceMatcher(None, a, b, autojunk=False).ratio() >= ALIKE if a != b else True


def overlaps(train: Sequence[Task], test: Sequence[Task]) -> list[Overlap]:
    """Every pair of a training and a test item that are one item, in the test items' order."""
    by_text, by_norm, by_symbols, by_origin = (
        defaultdict[object, list[Task]](list) for _ in range(4)
    )
    for task in train:
        by_text[task.question].append(task)
        by_norm[normalised(task.question)].append(task)
        by_symbols[reading(task.question).symbols].append(task)
        by_origin[task.origin].append(task)
    found = []
    for task in test:
        read = reading(task.question)
        near = (
            [t for t in by_symbols[read.symbols] if _alike(reading(t.question), read)]
            if read.symbols
            else []
        )
        ways: dict[str, str] = {}
        for how, others in (
            ("exact", by_text[task.question]),
            ("normalised", by_norm[normalised(task.question)]),
            ("near", near),
        ):
            for other in others:
                ways.setdefault(other.task_id, how)
        found += [
            Overlap(other.task_id, task.task_id, "origin")
            for other in (by_origin[task.origin] if task.origin else [])
        ]
        found += [Overlap(other, task.task_id, how) for other, how in ways.items()]
    return found


def gate(run: RunConfig, tables: Sequence[Path]) -> frozenset[str]:
    """Ids of the training items that a run leaves out, as its key `overlap` says; what is found is
    logged.

    `tables`: the task tables of the run's benchmark and of each of `evaluate.also`, in this order.

    Raises:
        ValueError: a training item is a test item of a benchmark that the run evaluates on, and
            `overlap` is "stop".
    """
    if not run.train.steps:
        return frozenset()
    train = read_tasks(tables[0], "train")
    named = zip([run.benchmark, *run.evaluate.also], tables, strict=True)
    found = {
        c.name: overlaps(train, read_tasks(path, "test")) for c, path in named if c in run.evaluated
    }
    ids = frozenset(o.train_id for pairs in found.values() for o in pairs)
    if not ids:
        return ids
    said = (
        f"{len(ids)} of {len(train):,} training items of {run.benchmark.name} are test items: "
        f"{_said(found)}"
    )
    if run.overlap == "stop":
        raise ValueError(
            f"{run.id}: {said}. Remedy: `overlap: drop` in the run leaves these training items "
            "out; "
            '`overlap: {accept: "<why, in words>"}` trains on them.'
        )
    if run.overlap == "drop":
        log.info("overlap: %s. They are left out, %s remain", said, f"{len(train) - len(ids):,}")
        return ids
    log.warning("overlap: %s. Accepted: %s", said, run.overlap.accept)
    return frozenset()


def _said(found: Mapping[str, Sequence[Overlap]]) -> str:
    """Counts by test set and way, and the first five pairs."""
    counts = "; ".join(f"{name} {_counts(pairs)}" for name, pairs in found.items() if pairs)
    pairs = [
        f"{o.train_id} = {name} {o.test_id} ({o.how})" for name, rows in found.items() for o in rows
    ]
    return f"{counts}. {', '.join(pairs[:5])}{', ...' if len(pairs) > 5 else ''}"


def _counts(pairs: Sequence[Overlap]) -> str:
    return ", ".join(f"{n} {how}" for how in WAYS if (n := sum(o.how == how for o in pairs)))


def table(
    train: Mapping[str, Sequence[Task]], test: Mapping[str, Sequence[Task]]
) -> list[dict[str, str | int]]:
    """One row for each training set and test set: their sizes, pairs found by way, distinct test
    items found, the first three pairs.
    """
    rows: list[dict[str, str | int]] = []
    for (a, learnt), (b, asked) in itertools.product(train.items(), test.items()):
        found = overlaps(learnt, asked)
        rows.append(
            {
                "train": a,
                "test": b,
                "train items": len(learnt),
                "test items": len(asked),
                **{how: sum(o.how == how for o in found) for how in WAYS},
                "test items found": len({o.test_id for o in found}),
                "examples": "; ".join(f"{o.train_id} = {o.test_id} ({o.how})" for o in found[:3]),
            }
        )
    return rows


def write(rows: Sequence[Mapping[str, str | int]], out: Path) -> None:
    """Writes the rows of `table`, of which there is one at least, as CSV, and shows them."""
    from rich.console import Console
    from rich.table import Table

    sheet = io.StringIO()
    shown = Table()
    writer = csv.DictWriter(sheet, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    schema.write_text(out, sheet.getvalue())
    columns = [name for name in rows[0] if name != "examples"]
    for name in columns:
        shown.add_column(name, justify="right" if isinstance(rows[0][name], int) else "left")
    for row in rows:
        shown.add_row(
            *(
                f"{row[name]:,}" if isinstance(row[name], int) else str(row[name])
                for name in columns
            )
        )
    Console(width=None if sys.stdout.isatty() else 140).print(shown)
