"""The command line as people and rules meet it: what it lists, takes and refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from ccpo import __main__ as cli
from ccpo import __version__, files

Call = Callable[..., tuple[int, str, str]]


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `ccpo WORDS` in this process."""
    monkeypatch.setattr(sys, "argv", ["ccpo", *words])
    code = cli.main()
    streams = capsys.readouterr()
    return code, streams.out, streams.err


@pytest.fixture
def ccpo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.chdir(ROOT)
    return lambda *words: call(monkeypatch, capsys, *words)


def test_help_tells_verbs_of_people_from_verbs_of_rules(ccpo: Call) -> None:
    code, out, _ = ccpo("--help")
    assert code == 0
    people, rules = out.split("For people")[1].split("Called by the workflow's rules")
    for word in ("check", "audit", "doctor"):
        assert re.search(rf"│ {word}\b", people), word
    for word in ("train", "score", "figure"):
        assert re.search(rf"│ {word}\b", rules), word
    assert ccpo()[1] == out


def test_every_verb_that_a_rule_calls_is_listed_for_rules_or_people() -> None:
    called = {
        word
        for path in [ROOT / "workflow/Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
        for word in re.findall(r"-m ccpo ([a-z-]+)", path.read_text())
    }
    verbs = {
        command.name or getattr(command.callback, "__name__", "").replace("_", "-")
        for command in cli.app.registered_commands
    }
    assert len(called) > 10
    assert called <= verbs


def test_version(ccpo: Call) -> None:
    assert ccpo("--version") == (0, f"ccpo {__version__}\n", "")


def test_a_misspelt_verb_gets_a_suggestion(ccpo: Call) -> None:
    code, _, err = ccpo("chekc", "quickstart")
    assert code == 2
    assert "Did you mean 'check'?" in err


@pytest.mark.parametrize(
    ("words", "several", "wanted"),
    [
        ("--a x y --b z", {"--a"}, "--a x --a y --b z"),
        ("--a x --a y", {"--a"}, "--a x --a y"),
        ("--b z --a x y w", {"--a"}, "--b z --a x --a y --a w"),
        ("name --b z", {"--a"}, "name --b z"),
        ("--b z w", {"--a"}, "--b z w"),
        ("--a --a x --a", {"--a", "--b"}, "--a --a x --a"),
        ("--a x x --b y y", {"--a", "--b"}, "--a x --a x --b y --b y"),
    ],
)
def test_lists_may_be_written_with_spaces(words: str, several: set[str], wanted: str) -> None:
    assert cli.repeated(words.split(), several) == wanted.split()


def without_a_trace(outcome: tuple[int, str, str], *words: str) -> None:
    code, _, err = outcome
    assert code in (1, 2)
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize("verb", ["hash", "failures", "audit"])
def test_a_path_where_nothing_is(ccpo: Call, verb: str, tmp_path: Path) -> None:
    path = str(tmp_path / "nowhere")
    without_a_trace(ccpo(verb, path), f"ccpo {verb}:", path, "does not exist. Remedy:")


def test_a_wrong_kind_of_file(ccpo: Call, tmp_path: Path) -> None:
    binary = tmp_path / "stats.json"
    binary.write_bytes(b"\xff\xfe\x00PAR1")
    out = ["--out", str(tmp_path / "out.csv")]
    without_a_trace(ccpo("table", "--stats", str(binary), *out), str(binary), "is not JSON")
    without_a_trace(ccpo("table", "--stats", str(tmp_path), *out), "is a folder")
    without_a_trace(ccpo("failures", str(tmp_path)), "is a folder")
    assert ccpo("failures", str(binary))[0] == 0  # a log with odd bytes has no failed job
    oracle = ["--experiment", str(binary), "--diagnostics", str(binary), *out]
    without_a_trace(ccpo("compare", *oracle), "is not JSON")


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"kind": "passport", "version": 1}', '{"kind": "passport"}']
)
def test_an_artefact_whose_passport_says_nothing(ccpo: Call, tmp_path: Path, content: str) -> None:
    (tmp_path / "a.svg").write_text("x")
    (tmp_path / "a.svg.passport.json").write_text(content)
    code, out, err = ccpo("audit", str(tmp_path / "a.svg"))
    assert (code, err) == (1, "")
    for word in ("a.svg.passport.json", "remedy", "restore this file"):
        assert word in out


def test_an_artefact_without_a_passport(ccpo: Call, tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text("x")
    without_a_trace(ccpo("audit", str(tmp_path / "a.svg")), "has no passport", "Remedy")


def test_an_experiment_may_be_named_by_its_file(ccpo: Call, tmp_path: Path) -> None:
    assert ccpo("check", "config/experiments/smoke.yaml") == ccpo("check", "smoke")
    elsewhere = tmp_path / "mine.yaml"
    elsewhere.write_text("question: none")
    for path in (str(elsewhere), "experiments/smoke.yaml", "smoke.yaml"):
        without_a_trace(ccpo("check", path), path, "Remedy")


def test_what_is_no_file_system_error_is_a_traceback(
    ccpo: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the program is not dressed up as one of its input."""

    def broken(_: object) -> str:
        raise KeyError("x")

    monkeypatch.setattr(files, "sha256", broken)
    with pytest.raises(KeyError):
        ccpo("hash", ".")


def test_a_folder_that_may_not_be_written(
    ccpo: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "sha256", refused)
    without_a_trace(ccpo("hash", str(tmp_path)), f"Permission denied: {tmp_path}", "Remedy")


def test_a_closed_pipe_ends_without_a_word() -> None:
    """Both when it closes before the first line and in the middle of much text."""
    # what is written at once ends in another place than what is kept until the end
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    for words in (["check", "quickstart"], ["verify", "a" * 100_000, "1"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "ccpo", *words],
            cwd=ROOT,
            env=environment,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(writer)
        assert done.stderr == ""
        assert done.returncode == 1


def test_paths_are_looked_at_before_torch_is_imported(tmp_path: Path) -> None:
    """The import is made to fail; the message is still about the path."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    words = [f"--{name}" for name in ("config", "tasks", "model", "scratch", "out")]
    done = subprocess.run(
        [sys.executable, "-m", "ccpo", "train", *(w for o in words for w in (o, "nowhere"))],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "nowhere does not exist" in done.stderr
    assert "torch was imported" not in done.stderr
