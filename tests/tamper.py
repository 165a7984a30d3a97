"""What somebody may do to a finished experiment, from an accident to a forgery that is consistent
with itself; and what an audit must say of each. `python tests/tamper.py FOLDER` prints the table.

Every case works on a copy of a project in which an experiment was built by the workflow (`build`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT

from ccpo import files, lineage, schema
from ccpo.audit import audit, contents, derive
from ccpo.audit import publish as publication
from ccpo.audit.findings import Findings
from ccpo.config import read_protocol, read_run, tasks_slug
from ccpo.data.tables import read_tasks
from ccpo.evaluate import analyse, evaluate
from ccpo.publish import draw, report, tables

NAME = "smoke"
WHO = ("-c", "user.name=test", "-c", "user.email=test@example.org")


def build(folder: Path) -> None:
    """A project in a repository of its own, with an experiment of two conditions and two seeds,
    built by the workflow and published.
    """
    for name in ("workflow", "config", "ccpo", "envs", ".dvc"):
        ignored = shutil.ignore_patterns("__pycache__", "tmp", "cache", "config.local")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("Snakefile", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    path = folder / "config" / "experiments" / f"{NAME}.yaml"
    raw = yaml.safe_load(path.read_text())
    conditions = raw["grid"]["condition"]
    raw["single"] = False
    raw["grid"]["condition"] = {name: conditions[name] for name in ("shared", "ccpo")}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "all")):
        subprocess.run(["git", *WHO, *words], cwd=folder, check=True)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(folder)
    done = subprocess.run(
        ["snakemake", "--cores", "2", "--config", f"experiments=[{NAME}]"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    project = Project(folder, folder)
    list(publication.publish(project.experiment, place=project.place))


@dataclass(frozen=True)
class Project:
    """A copy of a built project; `code`: where its package, locks and repository lie, which most
    cases leave alone.
    """

    root: Path
    code: Path

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def experiment(self) -> Path:
        return self.results / "experiments" / NAME

    @property
    def place(self) -> audit.Place:
        return audit.Place(self.root / "config", self.root / "published", self.code / "ccpo")

    @property
    def planned(self) -> dict[str, Any]:
        return dict(json.loads((self.experiment / "experiment.json").read_text()))

    def run(self, condition: str = "ccpo", seed: int = 0) -> Path:
        """The folder of a run."""
        [of] = [c for c in self.planned["conditions"] if c["label"] == condition]
        return self.results / "runs" / str(of["runs"][str(seed)])

    def played(self, name: str, condition: str = "ccpo", seed: int = 0) -> Path:
        """A table of a run's evaluation."""
        [path] = self.run(condition, seed).glob(f"eval/*/{name}.parquet")
        return path

    def base(self) -> Path:
        """The base model of a run."""
        [path] = [p for p in (self.results / "models").iterdir() if p.is_dir()][:1]
        return path

    def table(self) -> Path:
        """The task table."""
        [path] = (self.results / "tasks").glob("*.parquet")
        return path


def copy(built: Path, folder: Path) -> Project:
    """A copy of the results, with the code of the original."""
    for name in ("results", "config", "published"):
        shutil.copytree(built / name, folder / name)
    return Project(folder, built)


def with_code(project: Project) -> Project:
    """The same with a package, locks and a repository of its own."""
    for name in ("ccpo", "envs", ".git"):
        shutil.copytree(project.code / name, project.root / name)
    return Project(project.root, project.root)


# What is done to a file.


def flip(path: Path) -> None:
    """Another byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    """The second half is lost."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def swap(a: Path, b: Path) -> None:
    """Two files or folders change places."""
    aside = a.with_name("aside")
    a.rename(aside)
    b.rename(a)
    aside.rename(b)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Changes a JSON file, and writes it as it was written."""
    text = path.read_text()
    value = json.loads(text)
    change(value)
    if text == files.canonical(json.loads(text)) + "\n":
        path.write_text(files.canonical(value) + "\n")
    else:
        files.write_json(path, value)


def column(path: Path, name: str, change: Callable[[list[Any]], list[Any]]) -> None:
    """Changes a column of a table, which stays a table."""
    kind = path.name.removesuffix(".parquet")
    kind = kind if kind in schema.TABLES else "tasks"
    rows = schema.read_table(path, kind).to_pydict()
    rows[name] = change(rows[name])
    schema.write_table(path, schema.to_table(kind, rows))


def all_right(values: list[Any]) -> list[Any]:
    return [1.0] * len(values)


def rehash(project: Project) -> None:
    """Makes every record say what is there, as who forges does, until all of them agree."""
    for _ in range(12):
        changed = False
        for path in [
            *project.results.rglob("*.passport.json"),
            *project.results.rglob(lineage.PROVENANCE),
        ]:
            record = json.loads(path.read_text())
            before = json.dumps(record)
            for key in ("inputs", "outputs"):
                named = record.get(key, {})
                record[key] = {n: files.sha256(path.parent / n) for n in named}
            if path.name == lineage.PROVENANCE:
                pass
            else:
                record.pop("outputs")
                artefact = path.with_name(path.name.removesuffix(".passport.json"))
                record["sha256"] = files.sha256(artefact)
            if json.dumps(record) != before:
                files.write_json(path, record)
                changed = True
        if not changed:
            return
    raise AssertionError("the records do not settle")


def remake(project: Project) -> None:
    """Statistics, figures, tables and page from what is there, and all records with them."""
    folder = project.experiment
    stats = folder / "stats.json"
    rehash(project)
    made = analyse.numbers(folder / "experiment.json", project.results / "runs")
    made.write(stats)
    publish(project)


def publish(project: Project) -> None:
    """Figures, tables and page from the statistics that are there, and all records with them."""
    folder = project.experiment
    stats = folder / "stats.json"
    for svg in (folder / "figures").glob("*.svg"):
        picture, numbers = draw.drawn(svg.stem, stats)
        svg.write_bytes(picture)
        svg.with_suffix(".csv").write_text(numbers)
    text, rows = tables.contents(stats)
    schema.write_text(folder / "tables" / "main.csv", text)
    schema.write_json(folder / "tables" / "main.json", rows)
    rehash(project)
    of = contents.of_folder(folder)
    audited = contents.begin(NAME)
    audited.records.follow(folder / "report.html")
    page = report.drawn(
        derive.shown_by(of, audited), lineage.read_passport(folder / "report.html").source
    )
    schema.write_text(folder / "report.html", page)
    rehash(project)


# The forgeries.


def forged_scores(project: Project) -> None:
    column(project.played("scores"), "accuracy", all_right)
    remake(project)


def forged_rollouts(project: Project) -> None:
    """Every last message of a run says the truth, and all that follows is made from it."""
    run = project.run()
    path = project.played("rollouts")
    config = read_run(run / "config.json")
    table = project.results / "tasks" / f"{tasks_slug(config.benchmark)}.parquet"
    truths = {task.task_id: task.truth for task in read_tasks(table, "test")}
    rows = schema.read_table(path, "rollouts").to_pylist()
    for row in rows:
        if row["turn"] == 1:
            row["completion"] = f"\\boxed{{{truths[row['task_id']]}}}"
    schema.write_table(path, schema.rows_to_table("rollouts", rows))
    protocol = project.results / "protocols" / f"{path.parent.name}.json"
    assert read_protocol(protocol)
    made = evaluate.graded(evaluate.Played(run / "config.json", protocol, (table,), path))
    schema.write_table(project.played("scores"), made.scores)
    schema.write_table(project.played("graders"), made.graders)
    remake(project)


def forged_thoughts(project: Project) -> None:
    """Other first messages, as if the answers had followed from them; all records agree."""
    path = project.played("rollouts")
    rows = schema.read_table(path, "rollouts").to_pylist()
    for row in rows:
        if row["turn"] == 0:
            row["completion"] = "1+1=2"
    schema.write_table(path, schema.rows_to_table("rollouts", rows))
    run = project.run()
    protocol = project.results / "protocols" / f"{path.parent.name}.json"
    made = evaluate.graded(evaluate.Played(run / "config.json", protocol, (project.table(),), path))
    schema.write_table(project.played("scores"), made.scores)
    schema.write_table(project.played("graders"), made.graders)
    remake(project)


def forged_statistics(project: Project) -> None:
    def better(value: Any) -> None:
        value["comparisons"][0]["verdict"] = "above"
        value["comparisons"][0]["p_holm"] = 0.001

    edit(project.experiment / "stats.json", better)
    publish(project)


def forged_figure(project: Project) -> None:
    csv = project.experiment / "figures" / "accuracy.csv"
    svg = csv.with_suffix(".svg")
    csv.write_text(csv.read_text().replace("0.0", "0.9"))
    svg.write_text(svg.read_text().replace("<path", "<path transform='scale(1.1)'", 1))
    rehash(project)


def forged_ledger(project: Project) -> None:
    """Half the tokens, in the ledger, the train table and provenance."""
    run = project.run()
    half: Callable[[list[Any]], list[Any]] = lambda values: [v // 2 for v in values]  # noqa: E731
    column(run / "ledger.parquet", "generated_tokens", half)
    ledger = schema.read_table(run / "ledger.parquet", "ledger").to_pandas()
    sums = ledger.groupby("step").generated_tokens.sum().cumsum()
    steps = schema.read_table(run / "train.parquet", "train").to_pydict()["step"]
    column(run / "train.parquet", "generated_tokens", lambda _: [int(sums[s]) for s in steps])
    total = int(ledger.generated_tokens.sum())
    edit(run / lineage.PROVENANCE, lambda v: v["trained"]["ledger"].update(generated_tokens=total))
    remake(project)


def forged_credit(project: Project) -> None:
    column(project.run() / "credit.parquet", "credit", lambda values: [-v for v in values])
    remake(project)


def forged_page(project: Project) -> None:
    page = project.experiment / "report.html"
    page.write_text(page.read_text().replace("is not decidable", "is shown to be above"))
    page.write_text(page.read_text().replace("</h1>", "</h1><p>It works.</p>"))
    rehash(project)


def forged_tasks(project: Project) -> None:
    """Other truths in the task table, and scores that are right by them."""
    path = project.table()
    column(path, "truth", lambda values: ["1"] * len(values))
    for condition in ("shared", "ccpo"):
        for seed in (0, 1):
            run = project.run(condition, seed)
            rollouts = project.played("rollouts", condition, seed)
            protocol = project.results / "protocols" / f"{rollouts.parent.name}.json"
            made = evaluate.graded(
                evaluate.Played(run / "config.json", protocol, (path,), rollouts)
            )
            schema.write_table(rollouts.with_name("scores.parquet"), made.scores)
            schema.write_table(rollouts.with_name("graders.parquet"), made.graders)
    remake(project)


def forged_weights(project: Project) -> None:
    weights = next(project.run().glob("model/policy0/model.safetensors"))
    flip(weights)
    files.write_manifest(project.run() / "model")
    remake(project)


def forged_seconds(project: Project) -> None:
    column(project.run() / "seconds.parquet", "seconds", lambda values: [v / 2 for v in values])
    remake(project)


def forged_machine(project: Project) -> None:
    edit(
        project.run() / lineage.PROVENANCE,
        lambda v: v["machine"]["hardware"].update(processor="a faster one"),
    )
    remake(project)


def forged_commit(project: Project) -> None:
    """All records name another commit of this repository, whose package is another."""
    subprocess.run(["git", *WHO, "rm", "-q", "ccpo/tree.py"], cwd=project.root, check=True)
    subprocess.run(["git", *WHO, "commit", "-qm", "x"], cwd=project.root, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=project.root, check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["git", "checkout", "-q", "HEAD~1"], cwd=project.root, check=True)
    for path in [
        *project.results.rglob("*.passport.json"),
        *project.results.rglob(lineage.PROVENANCE),
    ]:
        edit(path, lambda v: v.get("machine", v)["source"].update(commit=head))
    publish(project)


def without_a_seed(project: Project) -> None:
    """A seed that did not fit is left out of the experiment, and all is made without it."""

    def fewer(value: Any) -> None:
        for condition in value["conditions"]:
            for key in ("runs", "bases"):
                condition[key].pop("1")

    left_out = [condition["runs"]["1"] for condition in project.planned["conditions"]]
    edit(project.experiment / "experiment.json", fewer)
    for run in left_out:
        shutil.rmtree(project.results / "runs" / run)
    edit(
        project.experiment / "mlflow.json",
        lambda v: [v["runs"].pop(r) for r in list(v["runs"]) if ".s1-" in r],
    )
    for passport in project.experiment.rglob("*.passport.json"):
        edit(passport, lambda v: [v["inputs"].pop(n) for n in list(v["inputs"]) if ".s1-" in n])
    remake(project)


def other_order(project: Project) -> None:
    """The runs of two seeds change places in experiment.json, so that pairs are others."""

    def swapped(value: Any) -> None:
        runs = value["conditions"][0]["runs"]
        runs["0"], runs["1"] = runs["1"], runs["0"]

    edit(project.experiment / "experiment.json", swapped)
    remake(project)


def other_condition(project: Project) -> None:
    """The runs of one condition are counted as those of the other."""

    def swapped(value: Any) -> None:
        one, two = value["conditions"][:2]
        one["runs"], two["runs"] = two["runs"], one["runs"]

    edit(project.experiment / "experiment.json", swapped)
    remake(project)


def foreign_figure(project: Project) -> None:
    """A figure of another experiment, with its numbers and its passports."""
    folder = project.experiment / "figures"
    for kind in ("svg", "csv"):
        for suffix in ("", ".passport.json"):
            path = folder / f"accuracy.{kind}{suffix}"
            text = path.read_text()
            path.write_text(text.replace("accuracy", "accuracy ").replace("y .", "y."))
    for kind in ("svg", "csv"):
        artefact = folder / f"accuracy.{kind}"
        record = json.loads(lineage.passport_of(artefact).read_text())
        record["sha256"] = files.sha256(artefact)
        record["artefact"] = artefact.name
        record["inputs"] = {"../stats.json": "0" * 64}
        files.write_json(lineage.passport_of(artefact), record)


def touched(project: Project) -> None:
    for path in project.results.rglob("*"):
        if path.is_file():
            os.utime(path, (1, 1))


def unsigned(project: Project, change: Callable[[Any], None]) -> None:
    edit(project.run() / lineage.PROVENANCE, change)


@dataclass(frozen=True)
class Case:
    """Something that is done, by whom it may be; the part of the audit that finds it and a word
    that it names. part "": nothing is to be found; "anchor": only an anchor tells.
    """

    name: str
    who: str
    act: Callable[[Project], Any]
    part: str
    named: str
    own_code: bool = False
    only: tuple[str, ...] = ()


def _in_source(change: Callable[[Any], None]) -> Callable[[Project], None]:
    return lambda p: edit(p.run() / lineage.PROVENANCE, lambda v: change(v["machine"]["source"]))


def _drop(path: Callable[[Project], Path]) -> Callable[[Project], None]:
    def act(project: Project) -> None:
        target = path(project)
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return act


def _append(path: Callable[[Project], Path], text: str) -> Callable[[Project], None]:
    def act(project: Project) -> None:
        with open(path(project), "a") as handle:
            handle.write(text)

    return act


P = Project
CASES = [
    # tables of an evaluation
    Case("rollouts: a byte", "accident", lambda p: flip(p.played("rollouts")), "files", "rollouts"),
    Case("rollouts: cut off", "accident", lambda p: cut(p.played("rollouts")), "files", "rollouts"),
    Case(
        "rollouts of two runs swapped",
        "accident",
        lambda p: swap(p.played("rollouts"), p.played("rollouts", seed=1)),
        "files",
        "rollouts",
    ),
    Case("rollouts deleted", "author", _drop(lambda p: p.played("rollouts")), "closed", "rollouts"),
    Case(
        "every score 1.0",
        "author",
        lambda p: column(p.played("scores"), "accuracy", all_right),
        "files",
        "scores.parquet",
    ),
    Case(
        "scores of two runs swapped",
        "accident",
        lambda p: swap(p.played("scores"), p.played("scores", seed=1)),
        "files",
        "scores.parquet",
    ),
    Case("graders: a byte", "accident", lambda p: flip(p.played("graders")), "files", "graders"),
    # tasks and base models
    Case("task table: a byte", "accident", lambda p: flip(p.table()), "files", "arithmetic"),
    Case("task table deleted", "accident", _drop(P.table), "closed", "arithmetic"),
    Case(
        "dropped list edited",
        "author",
        lambda p: edit(p.table().with_suffix(".dropped.json"), lambda v: v.update(benchmark="x")),
        "files",
        "dropped.json",
    ),
    Case(
        "held out edited",
        "author",
        lambda p: edit(p.table().with_suffix(".held_out.json"), lambda v: v.update(items=1)),
        "files",
        "held_out.json",
    ),
    Case(
        "base model: a byte",
        "accident",
        lambda p: flip(p.base() / "model.safetensors"),
        "files",
        "models/smoke",
    ),
    Case(
        "base model: a file deleted",
        "accident",
        _drop(lambda p: p.base() / "generation_config.json"),
        "files",
        "models/smoke",
    ),
    Case(
        "base models swapped",
        "accident",
        lambda p: swap(*[d for d in sorted((p.results / "models").iterdir()) if d.is_dir()][:2]),
        "files",
        "models/smoke",
    ),
    Case(
        "base model: manifest edited",
        "author",
        lambda p: edit(files.manifest_of(p.base()), lambda v: v.update({"config.json": "0"})),
        "files",
        "manifest.json",
    ),
    # a run
    Case(
        "config of a run edited",
        "author",
        lambda p: edit(p.run() / "config.json", lambda v: v["train"].update(lr=1.0)),
        "names",
        "config.json",
    ),
    Case(
        "config deleted", "accident", _drop(lambda p: p.run() / "config.json"), "closed", "config"
    ),
    Case(
        "weights: a byte",
        "accident",
        lambda p: flip(next(p.run().glob("model/policy0/model.safetensors"))),
        "files",
        "model",
    ),
    Case(
        "weights of two runs swapped",
        "accident",
        lambda p: swap(p.run() / "model", p.run(seed=1) / "model"),
        "files",
        "model",
    ),
    Case(
        "manifest deleted",
        "accident",
        _drop(lambda p: p.run() / "model.manifest.json"),
        "closed",
        "model.manifest",
    ),
    *[
        Case(
            f"{name}: a byte",
            "accident",
            lambda p, n=name: flip(p.run() / f"{n}.parquet"),
            "files",
            f"{name}.parquet",
        )
        for name in contents.TABLES
    ],
    Case("run deleted", "author", _drop(lambda p: p.run(seed=1)), "closed", ".s1-"),
    Case(
        "provenance: commit",
        "author",
        _in_source(lambda s: s.update(commit="0" * 40)),
        "files",
        "provenance.json",
    ),
    Case(
        "provenance: lock",
        "author",
        _in_source(lambda s: s.update(lock="0" * 64)),
        "files",
        "provenance.json",
    ),
    Case(
        "provenance: an input's hash",
        "author",
        lambda p: unsigned(p, lambda v: v["inputs"].update({next(iter(v["inputs"])): "0"})),
        "files",
        "config.json",
    ),
    Case(
        "provenance: hash of the config",
        "author",
        lambda p: unsigned(p, lambda v: v["inputs"].update({"config.json": "0" * 64})),
        "files",
        "config.json",
    ),
    Case(
        "provenance: hash of an output",
        "author",
        lambda p: unsigned(p, lambda v: v["outputs"].update(model="0" * 64)),
        "files",
        "model",
    ),
    Case(
        "provenance: ledger totals",
        "author",
        lambda p: unsigned(p, lambda v: v["trained"]["ledger"].update(generated_tokens=1)),
        "ledger",
        "provenance.json",
    ),
    Case(
        "provenance: updates",
        "author",
        lambda p: unsigned(p, lambda v: v["trained"].update(updates=99)),
        "ledger",
        "provenance.json",
    ),
    Case(
        "provenance: items left out",
        "author",
        lambda p: unsigned(p, lambda v: v["trained"].update(left_out=["1+1"])),
        "names",
        "provenance.json",
    ),
    Case(
        "provenance deleted",
        "author",
        _drop(lambda p: p.run() / lineage.PROVENANCE),
        "closed",
        "provenance.json",
    ),
    # passports
    Case(
        "passport emptied",
        "author",
        lambda p: lineage.passport_of(p.played("scores")).write_text("{}"),
        "files",
        "scores.parquet.passport.json",
    ),
    Case(
        "passport deleted",
        "author",
        _drop(lambda p: lineage.passport_of(p.played("scores"))),
        "closed",
        "scores.parquet",
    ),
    Case(
        "passport of the statistics deleted",
        "author",
        _drop(lambda p: lineage.passport_of(p.experiment / "stats.json")),
        "closed",
        "stats.json",
    ),
    Case(
        "passport without inputs",
        "author",
        lambda p: edit(
            lineage.passport_of(p.experiment / "stats.json"), lambda v: v.update(inputs={})
        ),
        "closed",
        "stats.json",
    ),
    Case(
        "passport of another artefact",
        "accident",
        lambda p: shutil.copy(
            lineage.passport_of(p.played("graders")), lineage.passport_of(p.played("scores"))
        ),
        "files",
        "scores.parquet",
    ),
    Case(
        "passport of nothing",
        "accident",
        lambda p: shutil.copy(
            lineage.passport_of(p.experiment / "stats.json"),
            p.experiment / "old.json.passport.json",
        ),
        "closed",
        "old.json",
    ),
    # what is published
    Case(
        "statistics: a number",
        "author",
        lambda p: edit(p.experiment / "stats.json", lambda v: v.update(effect=0.5)),
        "files",
        "stats.json",
    ),
    Case(
        "figure: a byte",
        "author",
        lambda p: flip(p.experiment / "figures/accuracy.svg"),
        "files",
        "accuracy.svg",
    ),
    Case(
        "plotted numbers edited",
        "author",
        _append(lambda p: p.experiment / "figures/accuracy.csv", "x\n"),
        "files",
        "accuracy.csv",
    ),
    Case(
        "figure deleted",
        "author",
        _drop(lambda p: p.experiment / "figures/accuracy.svg"),
        "closed",
        "accuracy.svg",
    ),
    Case(
        "main table edited",
        "author",
        _append(lambda p: p.experiment / "tables/main.csv", "x\n"),
        "files",
        "main.csv",
    ),
    Case(
        "page edited",
        "author",
        _append(lambda p: p.experiment / "report.html", "<p>yes"),
        "files",
        "report.html",
    ),
    Case(
        "experiment.json: comparison dropped",
        "author",
        lambda p: edit(p.experiment / "experiment.json", lambda v: v.update(compare=[])),
        "names",
        "experiment.json",
    ),
    Case(
        "protocol edited",
        "author",
        lambda p: edit(next((p.results / "protocols").iterdir()), lambda v: v.update(seed=9)),
        "names",
        "protocols",
    ),
    Case(
        "MLflow ids: a run dropped",
        "author",
        lambda p: edit(p.experiment / "mlflow.json", lambda v: v["runs"].popitem()),
        "files",
        "mlflow.json",
    ),
    # code and environment
    Case(
        "code edited",
        "author",
        _append(lambda p: p.root / "ccpo/tree.py", "# x\n"),
        "uncertain",
        "code",
        own_code=True,
    ),
    Case(
        "lock edited",
        "author",
        _append(lambda p: p.root / "envs/main.lock", "\n"),
        "uncertain",
        "lock",
        own_code=True,
    ),
    Case(
        ".git removed",
        "author",
        _drop(lambda p: p.root / ".git"),
        "uncertain",
        "commit",
        own_code=True,
    ),
    # forgeries, all records made to agree
    Case("forged: scores", "forger", forged_scores, "verdicts", "scores.parquet"),
    Case("forged: statistics", "forger", forged_statistics, "statistics", "stats.json"),
    Case("forged: figure and its numbers", "forger", forged_figure, "figures", "accuracy"),
    Case("forged: tokens of a run", "forger", forged_ledger, "ledger", "ledger.parquet"),
    Case("forged: credit", "forger", forged_credit, "credit", "credit.parquet"),
    Case("forged: page", "forger", forged_page, "page", "report.html"),
    # more
    Case("forged: truths", "forger", forged_tasks, "tasks", "arithmetic"),
    Case("forged: first messages", "forger", forged_thoughts, "prompts", "rollouts.parquet"),
    Case("forged: last messages", "forger", forged_rollouts, "anchor", "runs"),
    Case("forged: weights", "forger", forged_weights, "anchor", "runs"),
    Case("forged: seconds", "forger", forged_seconds, "anchor", "runs"),
    Case("forged: machine", "forger", forged_machine, "anchor", "runs"),
    Case("forged: commit", "forger", forged_commit, "code", "its code", own_code=True),
    Case("a seed left out everywhere", "forger", without_a_seed, "names", "experiment.json"),
    Case("order of runs changed", "author", other_order, "names", "experiment.json"),
    Case("runs of another condition", "author", other_condition, "names", "experiment.json"),
    Case("figure of another experiment", "accident", foreign_figure, "files", "stats.json"),
    Case(
        "a file that belongs to nothing",
        "accident",
        lambda p: (p.run() / "notes.txt").write_text("x"),
        "closed",
        "notes.txt",
    ),
    Case(
        "packages of a run edited",
        "author",
        _in_source(lambda s: s["versions"].update(numpy="1.0")),
        "files",
        "provenance.json",
    ),
    Case(
        "made with packages other than locked",
        "author",
        lambda p: (_in_source(lambda s: s.update(unlocked=["numpy 1 (locked 2)"]))(p), publish(p)),
        "uncertain",
        "packages",
    ),
    Case("time stamps", "accident", touched, "", ""),
]


def found(project: Project, findings: Findings, case: Case) -> str:
    """What an audit says of a case where that is what it should; else ""."""
    if case.part == "uncertain":
        hits = [f"{u.what}: {u.why}" for u in findings.uncertain if case.named in u.what]
    else:
        hits = [
            str(Path(failure.path).relative_to(project.root))
            if failure.path.startswith("/")
            else failure.path
            for failure in findings.failures
            if failure.part == case.part and case.named in failure.path
        ]
    return hits[0] if hits else ""


def audited(project: Project, with_anchor: bool = False) -> Findings:
    """The audit of a project's experiment."""
    return audit.experiment(project.experiment, project.place, audit.Asked(with_anchor))


def main(built: Path, scratch: Path) -> None:
    """Prints what an audit finds of every case."""
    for number, case in enumerate(CASES):
        project = copy(built, scratch / str(number))
        if case.own_code:
            project = with_code(project)
        case.act(project)
        plain = audited(project)
        anchored = audited(project, True) if case.part == "anchor" else plain
        says = found(project, anchored, case) or "-"
        parts = sorted({failure.part for failure in plain.failures}) or ["nothing"]
        print(f"{case.who:9} | {case.name:40} | {plain.code} | {', '.join(parts):40} | {says}")
        shutil.rmtree(project.root)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
