"""The form of the code, as `python benchmarks/form.py` measures it: no word of the earlier
vocabulary, one idea an assignment, lines and argument lists that fit.

What other rooms still break stands in the lists below. They may only shrink: an entry that is no
longer needed fails here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import pytest

from benchmarks import form

OLD_NAMES: dict[str, set[str]] = {}
LONG_LISTS: set[str] = set()


def old_names(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Old words as names, by file; files without any are left out."""
    every = {file: form.old_words(file, source) for file, source in sources.items()}
    return {file: names for file, names in every.items() if names}


def long_lists(sources: Mapping[str, str]) -> set[str]:
    """Functions, as file:name, that take too many arguments."""
    return {
        f"{file}:{name}"
        for file, source in sources.items()
        for function, name in form.functions(source)
        if form.arguments(file, function) > form.ARGUMENTS
    }


def complaint(what: str, new: Set[str], gone: Set[str], remedy: str) -> str:
    """What is wrong, where, and what to do about it."""
    parts = [f"{what}: {', '.join(sorted(new))}. Remedy: {remedy}"] if new else []
    if gone:
        parts.append(
            f"mended: {', '.join(sorted(gone))}. Remedy: take it off the list in tests/test_form.py"
        )
    return "; ".join(parts)


def test_no_name_is_of_the_earlier_vocabulary() -> None:
    old = {f"{file}:{name}" for file, names in old_names(form.files()).items() for name in names}
    listed = {f"{file}:{name}" for file, names in OLD_NAMES.items() for name in names}
    remedy = "a name that says what the thing is (DESIGN's words)"
    message = complaint("old words as names", old - listed, listed - old, remedy)
    assert not message, message


def test_no_function_takes_more_arguments_than_a_reader_holds() -> None:
    long = long_lists(form.files())
    remedy = f"at most {form.ARGUMENTS}; a frozen dataclass for what belongs together"
    message = complaint("too many arguments", long - LONG_LISTS, LONG_LISTS - long, remedy)
    assert not message, message


def test_only_files_of_plug_ins_have_a_config_schema() -> None:
    """The exemption names functions that there are and that need it."""
    plug_ins = {"benchmark", "team", "credit", "advantage", "objective", "intervention"}
    sources = form.files()
    for file, names in form.SCHEMA.items():
        assert form.room(file) in plug_ins
        taken = {
            function.name: len(function.args.args) + len(function.args.kwonlyargs)
            for function, _ in form.functions(sources[file])
        }
        for name in names:
            assert taken[name] > form.ARGUMENTS, f"{file}:{name} needs no exemption"


def test_assignments_hold_one_idea() -> None:
    counts = {file: form.assignments(source) for file, source in form.files().items()}
    every = sum(n for n, _ in counts.values())
    packed = sum(n for _, n in counts.values())
    worst = sorted(counts, key=lambda file: -counts[file][1])[:3]
    assert packed <= form.PACKED * every, (
        f"{packed} of {every} assignments pack a tuple into a tuple, most in {worst}. Remedy: a "
        "statement for each value"
    )


def test_lines_fit() -> None:
    long = [
        f"ccpo/{file}:{number}"
        for file, source in form.files().items()
        for number in form.long_lines(source)
    ]
    assert not long, f"longer than {form.WIDTH} columns: {long}. Remedy: ruff format"


def test_what_counts_as_long() -> None:
    wide = "x = " + " + ".join("y" * 30)
    assert len(wide) > form.WIDTH
    assert form.long_lines(f"a = 1\n{wide}\n") == [2]
    assert form.long_lines(f"a = 1{' ' * 80}# type: ignore[arg-type]\n") == []
    assert form.long_lines(f"    {'y' * 120}\n") == []


BOUND = """
from __future__ import annotations
import ccpo.grade as said_by_nobody

class GroveOfTrees:
    told: int = 0
    def __enter__(self, heard_now, *, free_riders=0):
        self.live = 1
        for given, other in (): pass
        with open(heard_now) as mine: pass
        try: pass
        except ValueError as found: return [some for some in other]
"""


def test_names_are_found_wherever_they_are_given() -> None:
    want = {"GroveOfTrees", "told", "heard_now", "live", "given", "mine", "found", "some"}
    assert form.old_words("a/b.py", BOUND) == want
    assert form.old_words("publish/oracle_riders.py", "") == {"oracle_riders"}
    assert form.old_words("a.py", "x.said\nf(given=1)\nforgiven = 1") == set()  # read, not given
    assert form.old_words("a.py", "draw = tail = 1\nclass Draw: pass") == {"Draw"}


def test_prose_counts_words_that_plain_english_does_not_need() -> None:
    source = (
        '"""A study of what is found."""\nx = "a study"  # the song\ndef f():\n    """Heard."""\n'
    )
    assert form.old_words_in_prose(source) == 3


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        ("a, b = 1, 2", (1, 1)),
        ("self.a, b = (1, 2)", (1, 1)),
        ("a, b = b, a", (1, 0)),
        ("a, b = b, a + b", (1, 0)),
        ("a, b = f()", (1, 0)),
        ("a = 1, 2", (1, 0)),
        ("a: int = 1", (0, 0)),
    ],
)
def test_what_counts_as_packed(source: str, counts: tuple[int, int]) -> None:
    assert form.assignments(source) == counts


def test_statements_are_counted_without_those_below_them() -> None:
    """By hand: the condition has 3 nodes, the sum 4 (target, sum, two names), the call 2."""
    source = '"""Words."""\nimport os\nif a < b:\n    c = a + b\nelse:\n    f()\n'
    assert sorted(form.expression_nodes(source)) == [2, 3, 4]


def test_arguments_are_counted_without_self_and_schema() -> None:
    source = "class A:\n def f(self, a, *, b): pass\ndef credit(tree, *, a, b, c): pass\n"
    counts = {
        name: form.arguments("credit/ccpo_v1.py", function)
        for function, name in form.functions(source)
    }
    assert counts == {"A.f": 2, "credit": 1}
    assert [form.arguments("a.py", function) for function, _ in form.functions(source)] == [2, 4]


def test_a_function_is_measured_as_it_is_laid_out() -> None:
    wide = "def f(alpha, beta):\n    return g(" + ", ".join(["alpha"] * 12) + ")\n"
    narrow = form.formatted({"a.py": wide}, 88)["a.py"]
    [(function, _)] = form.functions(narrow)
    assert form.lines_of(function) == len(narrow.splitlines()) > 2


def test_rooms_count_lines_and_arrows() -> None:
    sources = {
        "__init__.py": "",
        "tree.py": "x = 1\n",
        "play/a.py": "from ccpo import tree\nimport numpy\n",
        "play/b.py": "from ccpo.play import a\n",
    }
    table = form.rooms(sources)
    assert table["play"] == form.Room(3, {"tree"}, set())
    assert table["tree"] == form.Room(1, set(), {"play"})


def test_the_page_is_printed() -> None:
    page = "\n".join(form.report(form.files()))
    for part in ("lines over 100 columns", "packed assignments", "is imported by"):
        assert part in page
