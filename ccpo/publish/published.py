"""What the papers print: values, settings and claims as data (config/published), read with their
types. The arithmetic that a printed number has to satisfy is in arithmetic.py.

Nothing is guessed: each row names where it stands and how it was had; what is known to exist and
could not be recovered is a row of missing.csv with the reason.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, JsonValue, ValidationError, model_validator

from ccpo.document import Record, near

FOLDER = Path("config/published")
How = Literal["text", "figure", "code", "second-hand", "computed", "inferred"]
Text = Annotated[str, Field(min_length=1)]


def _empty_as_none(text: object) -> object:
    return None if text == "" else text


def _words(text: object) -> object:
    return tuple(text.split()) if isinstance(text, str) else text


Number = Annotated[Decimal | None, BeforeValidator(_empty_as_none)]
Spread = Annotated[Annotated[Decimal, Field(ge=0)] | None, BeforeValidator(_empty_as_none)]
Count = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_empty_as_none)]
Keys = Annotated[tuple[str, ...], BeforeValidator(_words)]


class OfPaper(Record):
    """A row that is of a version of a paper, or of a release of its code."""

    paper: Text
    version: Text


class Paper(OfPaper):
    """A version of a paper, or a release of its code (papers.csv)."""

    arxiv: str = Field(pattern=r"^(\d{4}\.\d{5})?$")
    date: str = Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$")
    title: Text
    note: str


class Value(OfPaper):
    """A printed number (values/*.csv). `value` keeps the digits as printed; `upper` is the other
    end of a range.
    """

    key: str = Field(pattern=r"^[a-z0-9_.+-]+$")
    source: Text  # table, figure, page or section
    how: How  # it was had
    precision: str  # of what was read off a figure, or printed as "about"
    model: str  # as printed
    model_id: str  # of the hub, where it is known
    method: str  # the paper's name
    preset: str  # ours: a name of presets.yaml, `untrained`, or nothing
    team: str  # ours
    benchmark: str  # our name where there is one; several where it is an average
    metric: Text
    temperature: Number
    value: Decimal
    upper: Number
    unit: str
    spread: Spread
    spread_kind: str
    items: Count  # questions of the benchmark
    runs: Count  # seeds, or evaluations counted as such
    relation: Literal["", "mean", "sum", "difference", "same", "ratio"]
    of: Keys  # keys of the values that it follows from
    caveat: str

    @model_validator(mode="after")
    def _whole(self) -> Value:
        if self.how == "figure" and not self.precision:
            raise ValueError("read off a figure, and precision is empty: say how exactly")
        if (self.spread is None) != (not self.spread_kind):
            raise ValueError("spread and spread_kind go together: one of them is empty")
        if bool(self.relation) != bool(self.of):
            raise ValueError("relation and of go together: one of them is empty")
        if self.upper is not None and self.upper <= self.value:
            raise ValueError(f"upper {self.upper} is not above value {self.value}")
        if self.relation in ("same", "ratio") and len(self.of) != PARTS[self.relation]:
            raise ValueError(f"relation {self.relation} is of {PARTS[self.relation]} values")
        if self.relation == "difference" and len(self.of) < 2:
            raise ValueError("relation difference is of two values or more")
        return self


PARTS = {"same": 1, "ratio": 2}


class Hyper(OfPaper):
    """A printed setting (hyper.csv).

    `key` is the key of our config where there is one, else a name of its own. `setting` says of
    which runs it is: `key=value` pairs joined by `;`, all of which hold; nothing: of all. `value`
    is JSON or text; `|` stands between alternatives.
    """

    part: Literal["train", "evaluate", "protocol", "machine", "data", "diagnose"]
    setting: str = Field(pattern=r"^([a-z_.]+=[^=;]+(;[a-z_.]+=[^=;]+)*)?$")
    key: Text
    value: Text
    unit: str
    source: Text
    how: How
    note: str

    @property
    def alternatives(self) -> tuple[JsonValue, ...]:
        """The values that it allows, typed."""
        return tuple(_typed(text) for text in self.value.split("|"))

    @property
    def conditions(self) -> tuple[tuple[str, JsonValue], ...]:
        """Keys and values that a run has to have for this to be of it."""
        pairs = [pair.split("=") for pair in self.setting.split(";") if pair]
        return tuple((key, _typed(value)) for key, value in pairs)


class Missing(OfPaper):
    """What is known to be printed, or to be needed, and could not be recovered (missing.csv)."""

    what: Text
    source: Text
    reason: Text


class Claim(OfPaper):
    """What a paper claims (claims.csv), and which evidence of ours bears on it."""

    key: str = Field(pattern=r"^[a-z0-9_.+-]+$")
    source: Text
    how: How
    claim: Text  # in our words
    quote: str  # in theirs, at most 15 words
    decides: Text  # what would decide it
    oracle: str  # the text of a claim of ccpo/oracle/claims.py
    values: Keys  # printed values whose arithmetic bears on it
    comparison: str  # "experiment: a - b", declared in an experiment

    @model_validator(mode="after")
    def _short(self) -> Claim:
        if len(self.quote.split()) > 15:
            raise ValueError(f"quote has {len(self.quote.split())} words, at most 15 are quoted")
        return self


@dataclass(frozen=True)
class Published:
    """All of config/published."""

    papers: tuple[Paper, ...]
    values: Mapping[str, Value]  # by key
    hyper: tuple[Hyper, ...]
    missing: tuple[Missing, ...]
    claims: tuple[Claim, ...]

    def of(self, paper: str, version: str) -> list[Value]:
        """The values of a version of a paper, in the order of the files."""
        return [v for v in self.values.values() if (v.paper, v.version) == (paper, version)]


R = TypeVar("R", bound=Record)


def read(folder: Path = FOLDER) -> Published:
    """Everything that is published, each row checked.

    Raises:
        ValueError: a file is missing; a column is unknown or missing; a value is of the wrong
        type; a key, or a row but for its value, stands twice; a source is missing; a paper,
        version or key that is named is not there. Names file and line.
    """
    papers = read_papers(folder)
    known = {(paper.paper, paper.version) for paper in papers}
    files_of_values = sorted((folder / "values").glob("*.csv"))
    rows = [placed for path in files_of_values for placed in _rows(path, Value)]
    values = _once(rows, lambda value: value.key)
    _once(rows, _cell)
    hyper = read_hyper(folder)
    missing = _rows(folder / "missing.csv", Missing)
    claims = _rows(folder / "claims.csv", Claim)
    _once(claims, lambda claim: claim.key)
    for placed in (rows, missing, claims):
        _of_known_papers(placed, known)
    for place, value in rows:
        _keys_known(place, value.of, values)
    for place, claim in claims:
        _keys_known(place, claim.values, values)
    return Published(
        papers=papers,
        values=values,
        hyper=hyper,
        missing=tuple(row for _, row in missing),
        claims=tuple(row for _, row in claims),
    )


def read_papers(folder: Path = FOLDER) -> tuple[Paper, ...]:
    """papers.csv. ValueError as `read`."""
    rows = _rows(folder / "papers.csv", Paper)
    _once(rows, lambda row: f"{row.paper} {row.version}")
    return tuple(row for _, row in rows)


def read_hyper(folder: Path = FOLDER) -> tuple[Hyper, ...]:
    """hyper.csv. ValueError as `read`."""
    known = {(paper.paper, paper.version) for paper in read_papers(folder)}
    rows = _rows(folder / "hyper.csv", Hyper)
    _once(rows, lambda r: f"{r.paper} {r.version} {r.part} [{r.setting}] {r.key}")
    _of_known_papers(rows, known)
    return tuple(row for _, row in rows)


def files(folder: Path = FOLDER) -> list[Path]:
    """All files that `read` reads."""
    return sorted([*folder.glob("*.csv"), *(folder / "values").glob("*.csv")])


def _rows(path: Path, kind: type[R]) -> list[tuple[str, R]]:
    """Rows of a CSV file, each with its place (`file, line n`)."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist. Remedy: git checkout -- {path}")
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.reader(handle, strict=True)
        names = next(reader, [])
        _check_columns(path, names, list(kind.model_fields))
        out = []
        for cells in reader:
            place = f"{path}, line {reader.line_num}"
            if len(cells) != len(names):
                raise ValueError(
                    f"{place}: {len(cells)} cells, {len(names)} columns. Remedy: put a cell with a "
                    "comma in quotes"
                )
            content = {name: text.strip() for name, text in zip(names, cells, strict=True)}
            out.append((place, _record(place, content, kind)))
    return out


def _check_columns(path: Path, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{path}, line 1: unknown column '{name}'. {near(name, known)}")
    for name in known:
        if list(names).count(name) != 1:
            raise ValueError(
                f"{path}, line 1: column '{name}' stands there {list(names).count(name)} times. "
                f"Remedy: one of each: {', '.join(known)}"
            )


def _record(place: str, content: Mapping[str, str], kind: type[R]) -> R:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        column = ".".join(str(part) for part in first["loc"] if part in kind.model_fields)
        shown = f" {content[column]!r}" if column in content else ""
        at = f", {column}{shown}" if column else ""
        raise ValueError(f"{place}{at}: {first['msg'].removeprefix('Value error, ')}") from None


def _once(rows: Sequence[tuple[str, R]], key: Callable[[R], str]) -> dict[str, R]:
    """Rows by a key that no two share."""
    places: dict[str, str] = {}
    out: dict[str, R] = {}
    for place, row in rows:
        name = key(row)
        if name in places:
            raise ValueError(
                f"{place}: '{name}' stands in {places[name]} already. Remedy: remove one of them"
            )
        places[name] = place
        out[name] = row
    return out


def _cell(value: Value) -> str:
    """What a value is of: no two numbers stand in one cell of a paper."""
    parts = (value.paper, value.version, value.source, value.method, value.team, value.model)
    return " / ".join((*parts, value.benchmark, value.metric, str(value.temperature)))


def _of_known_papers(rows: Sequence[tuple[str, OfPaper]], known: set[tuple[str, str]]) -> None:
    for place, row in rows:
        if (row.paper, row.version) not in known:
            named = f"{row.paper} {row.version}"
            hint = near(named, [" ".join(pair) for pair in known])
            raise ValueError(f"{place}: '{named}' is not in papers.csv. {hint}")


def _keys_known(place: str, keys: Iterable[str], values: Mapping[str, Value]) -> None:
    for key in keys:
        if key not in values:
            raise ValueError(f"{place}: no value has the key '{key}'. {near(key, values)}")


def _typed(text: str) -> JsonValue:
    """Text as JSON where it is such, else as it is."""
    try:
        value: JsonValue = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value
