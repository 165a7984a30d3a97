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
import typing
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Literal

from ccpo import benchmark, lineage, schema
from ccpo.benchmark import Task
from ccpo.config import Accepted, Choice, RunConfig, resolve
from ccpo.data.tables import read_tasks
from ccpo.document import Document, Record, read

log = logging.getLogger("ccpo")

Way = Literal["origin", "exact", "normalised", "near"]
WAYS: tuple[Way, ...] = typing.get_args(Way)
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
    how: Way


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
        token[0].lower() if kind == "word" else token[0]
        for token in _TOKEN.finditer(text)
        if token.lastgroup == kind
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
    pairs = []
    for task in test:
        read = reading(task.question)
        near = (
            [t for t in by_symbols[read.symbols] if _alike(reading(t.question), read)]
            if read.symbols
            else []
        )
        ways: dict[str, Way] = {}
        by_way: tuple[tuple[Way, list[Task]], ...] = (
            ("exact", by_text[task.question]),
            ("normalised", by_norm[normalised(task.question)]),
            ("near", near),
        )
        for how, others in by_way:
            for other in others:
                ways.setdefault(other.task_id, how)
        pairs += [
            Overlap(other.task_id, task.task_id, "origin")
            for other in (by_origin[task.origin] if task.origin else [])
        ]
        pairs += [Overlap(other, task.task_id, how) for other, how in ways.items()]
    return pairs


class Pair(Record):
    """A training item that is an item of the test set `test` (a task table's name), and how."""

    train_id: str
    test: str
    test_id: str
    how: Way


class HeldOut(Document):
    """Which of a benchmark's training items are test items of any test set that is held out of it;
    `items`: how many training items there are. With which sets they were compared stands in its
    passport: a set that holds none of them changes nothing here, hence no training.
    """

    kind: Literal["held_out"] = "held_out"
    version: Literal[1] = 1
    items: int
    pairs: tuple[Pair, ...]


def test_sets(choice: Choice) -> list[Choice]:
    """The test sets that no training item of a benchmark may be in, whatever is evaluated: its own,
    and every published one that is answered in the same form (what asks for a program asks for no
    number). A procedural benchmark, which has no source, makes its own items: no published set
    holds them.
    """
    trained_on = benchmark.load(choice.name)
    own = [choice] if "test" in trained_on.SPLITS else []
    if not trained_on.SOURCES:
        return own
    others = [
        Choice.model_validate(resolve("benchmark", name))
        for name in benchmark.names()
        if name != choice.name and _published_test(name, trained_on.FORM)
    ]
    return [*own, *others]


def _published_test(name: str, form: str) -> bool:
    module = benchmark.load(name)
    return bool("test" in module.SPLITS and module.SOURCES and form == module.FORM)


def hold_out(tasks: Path, tests: Sequence[Path], out: Path) -> None:
    """Compares the training items of a task table with the test items of others, and writes the
    pairs that are one item.
    """
    begun = lineage.begin([tasks, *tests])
    compared(tasks, tests).write(out)
    lineage.write_passport(out, begun)


def compared(tasks: Path, tests: Sequence[Path]) -> HeldOut:
    """The document that `hold_out` writes."""
    train = read_tasks(tasks, "train")
    pairs = [
        Pair(train_id=o.train_id, test=path.stem, test_id=o.test_id, how=o.how)
        for path in tests
        for o in overlaps(train, read_tasks(path, "test"))
    ]
    return HeldOut(items=len(train), pairs=tuple(pairs))


def gate(run: RunConfig, held_out: Path) -> frozenset[str]:
    """Ids of the training items that a run leaves out, as its key `overlap` says; what is found is
    logged.

    `held_out`: what `hold_out` wrote of the benchmark trained on.

    Raises:
        ValueError: a training item is a test item, and `overlap` is "stop".
    """
    if not run.train.steps:
        return frozenset()
    document = read(held_out, HeldOut)
    ids = frozenset(pair.train_id for pair in document.pairs)
    if not ids:
        return ids
    count = f"{len(ids)} of {document.items:,} training items of {run.benchmark.name}"
    reason = f"{count} are test items: {_listed(document.pairs)}"
    if run.overlap == "stop":
        raise ValueError(
            f"{run.id}: {reason}. Remedy: `overlap: drop` in the run leaves these training items "
            'out; `overlap: {accept: "<why, in words>"}` trains on them.'
        )
    if run.overlap == "drop":
        left = document.items - len(ids)
        log.info("overlap: %s. They are left out, %s remain", reason, f"{left:,}")
        return ids
    log.warning("overlap: %s. Accepted: %s", reason, run.overlap.accept)
    return frozenset()


def refuse_trained_on(
    run: RunConfig, tasks: Path, left_out: Collection[str], tests: Sequence[Path]
) -> None:
    """That a run was trained on none of the items that it is to be evaluated on: a test set may be
    younger than the training, or of other parameters than those it was compared with.

    `tasks`: the table trained on; `left_out`: ids of its items that the training left out;
    `tests`: the tables of what is evaluated.

    Raises:
        ValueError: it was trained on one, and its `overlap` accepts none.
    """
    if not run.train.steps:
        return
    trained_on = [task for task in read_tasks(tasks, "train") if task.task_id not in left_out]
    pairs = [
        Pair(train_id=o.train_id, test=path.stem, test_id=o.test_id, how=o.how)
        for path in tests
        for o in overlaps(trained_on, read_tasks(path, "test"))
    ]
    if not pairs:
        return
    ids = {pair.train_id for pair in pairs}
    reason = f"{len(ids)} of the items it was trained on are test items: {_listed(pairs)}"
    if isinstance(run.overlap, Accepted):
        log.warning("overlap: %s. Accepted: %s", reason, run.overlap.accept)
        return
    raise ValueError(
        f"{run.id}: {reason}. Remedy: leave that benchmark out of the protocol; or train a run "
        'that accepts it, `overlap: {accept: "<why, in words>"}`, which is another run.'
    )


def _listed(pairs: Sequence[Pair]) -> str:
    """Counts by test set and way, and the first five pairs."""
    sets = dict.fromkeys(pair.test for pair in pairs)
    counts = "; ".join(
        f"{name} {_counts([pair for pair in pairs if pair.test == name])}" for name in sets
    )
    shown = [f"{p.train_id} = {p.test} {p.test_id} ({p.how})" for p in pairs[:5]]
    return f"{counts}. {', '.join(shown)}{', ...' if len(pairs) > 5 else ''}"


def _counts(pairs: Sequence[Pair]) -> str:
    return ", ".join(f"{n} {how}" for how in WAYS if (n := sum(o.how == how for o in pairs)))


def table(
    train: Mapping[str, Sequence[Task]], test: Mapping[str, Sequence[Task]]
) -> list[dict[str, str | int]]:
    """One row for each training set and test set: their sizes, pairs found by way, distinct test
    items found, the first three pairs.
    """
    rows: list[dict[str, str | int]] = []
    for (a, trained), (b, asked) in itertools.product(train.items(), test.items()):
        pairs = overlaps(trained, asked)
        rows.append(
            {
                "train": a,
                "test": b,
                "train items": len(trained),
                "test items": len(asked),
                **{how: sum(o.how == how for o in pairs) for how in WAYS},
                "test items found": len({o.test_id for o in pairs}),
                "examples": "; ".join(f"{o.train_id} = {o.test_id} ({o.how})" for o in pairs[:3]),
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
