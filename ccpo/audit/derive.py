"""Derives again what needs no model, by the functions that made it, and compares byte for byte:
task tables, verdicts, statistics, figures, tables, the page.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ccpo import benchmark, lineage, schema
from ccpo.audit import contents
from ccpo.audit.contents import Audited, ExperimentFolder
from ccpo.audit.findings import Failure
from ccpo.audit.records import plain
from ccpo.config import Choice, read_protocol, read_run, tasks_slug
from ccpo.data import door, overlap
from ccpo.document import Document
from ccpo.evaluate import analyse, cross_play, evaluate
from ccpo.evaluate.probing import measuring
from ccpo.files import canonical
from ccpo.manifest import OracleManifest, TrainingManifest
from ccpo.oracle import claims
from ccpo.publish import draw, report, reproduced, tables

Bytes = Callable[[Path], None]


def tasks(audited: Audited) -> None:
    """Task tables, what was dropped and what is held out, from raw files and benchmarks."""
    passports = dict(audited.records.passports)
    for artefact, passport in passports.items():
        if artefact.suffix == ".parquet" and artefact.parent.name == "tasks":
            _table(artefact, Choice.model_validate(passport.parameters), audited)
    for artefact in passports:
        if artefact.name.endswith(".held_out.json"):
            _held_out(artefact, audited)


def _table(table: Path, choice: Choice, audited: Audited) -> None:
    """One task table and what was dropped of it."""
    raw = {}
    for key, origin in benchmark.load(choice.name).SOURCES.items():
        path = next(
            (p for p in _inputs(table, audited) if p.as_posix().endswith(origin.path)), None
        )
        if path is None or not path.is_file():
            audited.findings.doubt(
                f"{table} from raw files",
                f"{origin.path} is not here. Remedy: python -m ccpo data {choice.name}",
            )
            return
        remedy = "delete that file; python -m ccpo data fetches and verifies it"
        actual = audited.digests.of(path)
        audited.findings.compare("tasks", path, origin.sha256, actual, remedy)
        raw[key] = path
    try:
        made, dropped = door.made(choice, raw)
    except ValueError as error:
        audited.findings.doubt(f"{table} from raw files", str(error))
        return
    _compare("tasks", table, audited, lambda out: schema.write_table(out, made))
    beside = table.with_suffix(".dropped.json")
    _compare("tasks", beside, audited, lambda out: schema.write_json(out, dropped))


def _held_out(document: Path, audited: Audited) -> None:
    """Which training items are test items."""
    table = document.with_name(document.name.replace(".held_out.json", ".parquet"))
    passport = audited.records.passports.get(table)
    if passport is None:
        return
    choice = Choice.model_validate(passport.parameters)
    tests = [table.with_name(f"{tasks_slug(c)}.parquet") for c in overlap.test_sets(choice)]
    read = set(_inputs(document, audited))
    unread = [str(path) for path in tests if path != table and path not in read]
    remedy = audited.records.remedy(document, lineage.passport_of(document))
    audited.findings.compare("tasks", document, [], unread, remedy)
    if all(path.is_file() for path in (table, *tests)):
        _compare("tasks", document, audited, overlap.compared(table, tests).write)


def _inputs(artefact: Path, audited: Audited) -> list[Path]:
    names = audited.records.passports[artefact].inputs
    return [plain(artefact.parent / name) for name in names]


def verdicts(experiment: ExperimentFolder, audited: Audited) -> None:
    """Scores, and the papers' graders' verdicts, from rollouts."""
    assert isinstance(experiment.planned, TrainingManifest)
    for _, _, run in experiment.run_folders():
        for protocol in experiment.planned.protocols:
            played = _played(experiment, run, protocol.id)
            folder = protocol.folder(run)
            if played is None or not all(p.is_file() for p in (*played.tasks, played.rollouts)):
                continue  # named as missing
            try:
                made = evaluate.graded(played)
            except (ValueError, KeyError) as error:
                _underivable("verdicts", folder / "scores.parquet", error, audited)
                continue
            for name, table in (("scores", made.scores), ("graders", made.graders)):
                path = folder / f"{name}.parquet"
                if _table_of(name, path, table, audited):
                    audited.findings.passed("verdicts", len(table))


def crossed(experiment: ExperimentFolder, audited: Audited) -> None:
    """Verdicts of cross-play, from its messages."""
    assert isinstance(experiment.planned, TrainingManifest)
    for plan in experiment.planned.cross:
        written = canonical(plan.model_dump(mode="json")).encode() + b"\n"
        _compare_bytes("names", experiment.folder / "cross" / f"{plan.id}.json", written, audited)
        for seed in plan.seeds:
            path = plan.table(experiment.folder, seed)
            if path not in audited.records.passports:
                continue  # named as missing
            inputs = _inputs(path, audited)
            config = next((p for p in inputs if p.name == "config.json"), path)
            tasks = experiment.results / "tasks" / f"{plan.tasks}.parquet"
            planned = experiment.folder / "cross" / f"{plan.id}.json"
            messages = plan.messages(experiment.folder, seed)
            played = cross_play.CrossPlayed(planned, config, tasks, messages)
            try:
                made = cross_play.graded(played)
            except (ValueError, KeyError) as error:
                _underivable("verdicts", path, error, audited)
                continue
            if _table_of("cross", path, made, audited):
                audited.findings.passed("verdicts", len(made))


def probed(experiment: ExperimentFolder, audited: Audited) -> None:
    """Verdicts and diagnostics of probes, from their messages."""
    assert isinstance(experiment.planned, TrainingManifest)
    for condition, _, run in experiment.run_folders():
        for probe in contents.probes(experiment.planned, condition, run):
            if probe.table not in audited.records.passports:
                continue  # named as missing
            inputs = _inputs(probe.table, audited)
            tasks = next((p for p in inputs if p.parent.name == "tasks"), probe.table)
            try:
                drawn = measuring.Drawn(run / "config.json", tasks, probe.messages)
                table, diagnostics = measuring.measured(drawn)
            except (ValueError, KeyError) as error:
                _underivable("verdicts", probe.table, error, audited)
                continue
            if _table_of("probe", probe.table, table, audited):
                audited.findings.passed("verdicts", len(table))
            _compare("statistics", probe.diagnostics, audited, diagnostics.write)


def published(experiment: ExperimentFolder, audited: Audited) -> None:
    """What the paper printed beside what was measured, and the deviations from it."""
    planned = experiment.planned
    if not isinstance(planned, TrainingManifest) or planned.paper is None:
        return
    folder = experiment.folder / "tables"
    source = folder / "published.csv"
    if source not in audited.records.passports:
        return  # named as missing
    values = [p.parent for p in _inputs(source, audited) if p.name == "hyper.csv"]
    stats = experiment.folder / "stats.json"
    try:
        texts = reproduced.texts(experiment.folder / "experiment.json", stats, *values[:1])
    except (ValueError, KeyError, OSError) as error:
        _underivable("figures", source, error, audited)
        return
    for name, text in texts.items():
        _compare_bytes("figures", folder / name, text.encode(), audited)


def _played(experiment: ExperimentFolder, run: Path, protocol: str) -> evaluate.Played | None:
    """What verdicts of an evaluation are made from; None where a config cannot be read."""
    path = experiment.results / "protocols" / f"{protocol}.json"
    try:
        config = read_run(run / "config.json")
        choices = read_protocol(path).benchmarks(config)
    except ValueError:
        return None  # named by its hash or its name
    task_tables = tuple(experiment.results / "tasks" / f"{tasks_slug(c)}.parquet" for c in choices)
    rollouts = run / "eval" / protocol / "rollouts.parquet"
    return evaluate.Played(run / "config.json", path, task_tables, rollouts)


def _table_of(name: str, path: Path, made: schema.Table, audited: Audited) -> bool:
    """Whether a table on disk is one that was derived; names the first row that is not."""
    try:
        held = schema.read_table(path, name)
    except ValueError:
        return False  # named as missing, or by its hash
    if held.equals(made):
        return True
    rows = zip(held.to_pylist(), made.to_pylist(), strict=False)
    at = next((i for i, (a, b) in enumerate(rows) if a != b), min(len(held), len(made)))
    wanted = made.slice(at, 1).to_pylist()
    actual = held.slice(at, 1).to_pylist()
    keys = [k for k in wanted[0] if wanted[0][k] != actual[0][k]] if wanted and actual else []
    remedy = audited.records.remedy(path, lineage.passport_of(path))
    audited.findings.failed(
        Failure(
            "verdicts",
            f"{path}, row {at}" + (f" ({', '.join(keys)})" if keys else ""),
            str([{k: row[k] for k in keys} if keys else row for row in wanted]),
            str([{k: row[k] for k in keys} if keys else row for row in actual]),
            remedy,
        )
    )
    return False


def statistics(experiment: ExperimentFolder, audited: Audited) -> None:
    """stats.json from the tables of the runs, or of the worlds."""
    path = experiment.folder / "stats.json"
    planned = experiment.folder / "experiment.json"
    try:
        made: Document
        if isinstance(experiment.planned, OracleManifest):
            folder = experiment.folder / "diagnostics"
            worlds = [
                folder / f"{family}.{shape}.parquet"
                for family in experiment.planned.families
                for shape in experiment.planned.shapes
            ]
            made = claims.numbers(planned, worlds)
        else:
            made = analyse.numbers(planned, experiment.runs)
    except (ValueError, KeyError) as error:
        _underivable("statistics", path, error, audited)
        return
    _compare("statistics", path, audited, made.write)


def figures(experiment: ExperimentFolder, audited: Audited) -> None:
    """Figures, the numbers plotted in them, and the main table, from stats.json."""
    stats = experiment.folder / "stats.json"
    for name in experiment.figures():
        svg = experiment.folder / "figures" / f"{name}.svg"
        try:
            picture, numbers = draw.drawn(name, stats)
        except ValueError as error:
            _underivable("figures", svg, error, audited)
            continue
        for path, made in ((svg, picture), (svg.with_suffix(".csv"), numbers.encode())):
            _compare_bytes("figures", path, made, audited)
    csv = experiment.folder / "tables" / "main.csv"
    try:
        text, rows = tables.contents(stats)
    except ValueError as error:
        _underivable("figures", csv, error, audited)
        return
    _compare_bytes("figures", csv, text.encode(), audited)
    _compare("figures", csv.with_suffix(".json"), audited, lambda out: schema.write_json(out, rows))


def page(experiment: ExperimentFolder, audited: Audited) -> None:
    """The page, which says by which code it was drawn, from all that it shows."""
    path = experiment.folder / "report.html"
    passport = audited.records.passports.get(path)
    if passport is None:
        return  # named as missing
    try:
        made = report.drawn(shown_by(experiment, audited), passport.source)
    except (ValueError, OSError, KeyError) as error:
        _underivable("page", path, error, audited)
        return
    _compare_bytes("page", path, made.encode("utf-8", "backslashreplace"), audited)


def shown_by(experiment: ExperimentFolder, audited: Audited) -> report.Files:
    """What the page is made from."""
    page = experiment.folder / "report.html"
    plan = experiment.results / "plans" / f"{experiment.planned.experiment}.json"
    has_plan = page in audited.records.passports and plan in _inputs(page, audited)
    published = experiment.folder / "tables" / "published.csv"
    return report.Files(
        stats=experiment.folder / "stats.json",
        experiment=experiment.folder / "experiment.json",
        figures=[experiment.folder / "figures" / f"{name}.svg" for name in experiment.figures()],
        table=experiment.folder / "tables" / "main.csv",
        runs=experiment.runs if isinstance(experiment.planned, TrainingManifest) else None,
        plan=plan if has_plan else None,
        published=published if published.is_file() else None,
    )


def imported(experiment: ExperimentFolder, audited: Audited) -> None:
    """That mlflow.json names every run of the experiment, and no other."""
    path = experiment.folder / "mlflow.json"
    if not path.is_file():
        return  # named as missing
    record = schema.read_json(path)
    if record.get("warning"):
        audited.findings.doubt(str(path), record["warning"])
        return
    runs = sorted(folder.name for _, _, folder in experiment.run_folders())
    remedy = audited.records.remedy(path, lineage.passport_of(path))
    audited.findings.compare("mlflow", path, runs, sorted(record.get("runs", {})), remedy)


def reads(experiment: ExperimentFolder, audited: Audited) -> None:
    """That records name as inputs what the stage reads: a record that names less checks less."""
    planned = experiment.folder / "experiment.json"
    stats = experiment.folder / "stats.json"
    wanted: dict[Path, list[Path]] = {}
    for path in audited.records.passports:
        if path.parent in (experiment.folder / "figures", experiment.folder / "tables"):
            wanted[path] = [stats]
    if isinstance(experiment.planned, TrainingManifest):
        wanted[stats] = [planned, *analyse.inputs(planned, experiment.runs)]
        wanted[experiment.folder / "mlflow.json"] = [planned, stats]
        for _, _, run in experiment.run_folders():
            for protocol in experiment.planned.protocols:
                wanted |= _read_by_evaluation(experiment, run, protocol.id)
    wanted[experiment.folder / "report.html"] = report.inputs(
        shown_by(experiment, audited), experiment.planned
    )
    for path, needed in wanted.items():
        if path in audited.records.passports:
            named = set(_inputs(path, audited))
            lacking = sorted(str(p) for p in {plain(p) for p in needed} - named)
            record = lineage.passport_of(path)
            remedy = audited.records.remedy(path, record)
            audited.findings.compare("closed", f"{record}, inputs", [], lacking, remedy)


def _read_by_evaluation(
    experiment: ExperimentFolder, run: Path, protocol: str
) -> dict[Path, list[Path]]:
    """What the tables of an evaluation are made from; nothing where a config cannot be read."""
    played = _played(experiment, run, protocol)
    if played is None:
        return {}
    own = [played.config, played.protocol, *played.tasks]
    folder = played.rollouts.parent
    return {
        played.rollouts: [*own, run / lineage.PROVENANCE, run / "model"],
        folder / "scores.parquet": [*own, played.rollouts],
        folder / "graders.parquet": [*own, played.rollouts],
    }


def _underivable(part: str, path: Path, error: Exception, audited: Audited) -> None:
    """Names something whose sources do not even allow to derive it."""
    remedy = audited.records.remedy(path, lineage.passport_of(path))
    audited.findings.failed(Failure(part, str(path), "it can be derived", str(error), remedy))


def _compare(part: str, path: Path, audited: Audited, write: Bytes) -> None:
    """Compares a file with what a stage's function writes."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / path.name
        write(made)
        _compare_bytes(part, path, made.read_bytes(), audited)


def _compare_bytes(part: str, path: Path, made: bytes, audited: Audited) -> None:
    """Compares a file with what it should hold; names where they part."""
    if not path.is_file():
        return  # named as missing
    held = path.read_bytes()
    if held == made:
        audited.findings.passed(part)
        return
    at = _parting(held, made)
    remedy = audited.records.remedy(path, lineage.passport_of(path))
    where = slice(max(0, at - 40), at + 40)
    audited.findings.failed(
        Failure(
            part,
            f"{path}, byte {at:,}",
            repr(made[where].decode("utf-8", "replace")),
            repr(held[where].decode("utf-8", "replace")),
            remedy,
        )
    )


def _parting(a: bytes, b: bytes) -> int:
    """The first byte in which two texts differ."""
    n = min(len(a), len(b))
    one, two = (np.frombuffer(x[:n], np.uint8) for x in (a, b))
    apart = np.flatnonzero(one != two)
    return int(apart[0]) if apart.size else n
