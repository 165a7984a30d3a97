"""python -m ccpo VERB: what the workflow's rules call, and what people call to look around. Modules
are imported by the verb.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import sys
from pathlib import Path


def _data(a: argparse.Namespace) -> None:
    from ccpo.data import door

    door.data(a.names)


def _tasks(a: argparse.Namespace) -> None:
    from ccpo.config import Choice
    from ccpo.data import door

    door.tasks(Choice.model_validate_json(a.choice), a.out)


def _overlap(a: argparse.Namespace) -> None:
    from ccpo import lineage
    from ccpo.data import door, overlap

    train = door.items(a.train, "train")
    test = door.items(a.test, "test")
    overlap.write(overlap.table(train, test), a.out)
    lineage.passport(a.out, door.raw_files([*train, *test]), " ".join(sys.argv[1:]))


def _model(a: argparse.Namespace) -> None:
    from ccpo.config import Model
    from ccpo.models import prepare

    prepare.prepare(Model.model_validate_json(a.model), a.out)


def _base_models(a: argparse.Namespace) -> None:
    from ccpo.models import base_models
    from ccpo.operate import forecast

    follow = base_models.compare if a.compare else base_models.pin
    follow(a.names, slots=a.slots or forecast.cores())


def _train(a: argparse.Namespace) -> None:
    from ccpo.config import read_run
    from ccpo.data import overlap
    from ccpo.operate import slurm
    from ccpo.ranks import Sharding

    sharding = Sharding(a.zero, a.offload)
    if command := slurm.launch(sys.argv[1:]):
        os.execvp(command[0], command)
    without = overlap.gate(read_run(a.config), a.tasks)  # before torch and any model is loaded
    from ccpo.learn.train import Interrupted, Options, train

    first, *others = a.tasks
    try:
        train(
            config=a.config,
            tasks=first,
            model=a.model,
            scratch=a.scratch,
            out=a.out,
            options=Options(without, others, a.ranks, sharding),
        )
    except Interrupted as stop:
        if stop.progress and stop.first and (said := slurm.requeue()):
            print(f"ccpo train: {said}", file=sys.stderr)
        raise


def _rollout(a: argparse.Namespace) -> None:
    from ccpo.evaluate.evaluate import rollout

    rollout(
        config=a.config,
        tasks=a.tasks,
        model=a.model,
        untrained=a.untrained,
        scratch=a.scratch,
        out=a.out,
    )


def _score(a: argparse.Namespace) -> None:
    from ccpo.evaluate.evaluate import score

    score(
        config=a.config,
        tasks=a.tasks,
        rollouts=a.rollouts,
        scratch=a.scratch,
        out=a.out,
        graders=a.graders,
    )


def _diagnose(a: argparse.Namespace) -> None:
    from ccpo import lineage, schema
    from ccpo.oracle import diagnose

    asked = schema.read_json(a.experiment)
    rows, skipped = diagnose.diagnose(
        a.family,
        a.shape,
        [
            diagnose.Method(
                k,
                m["credit"]["name"],
                m["credit"]["params"],
                m["nested"],
                m["critic_error"],
                m["raters"],
            )
            for k, m in asked["methods"].items()
        ],
        asked["advantages"],
        instances=asked["instances"],
        seed=asked["seed"],
        tokens=asked["tokens"],
        model=a.model,
    )
    for made in (diagnose.write(rows, skipped, a.out), a.out):
        lineage.passport(
            made, [a.experiment, *([a.model] if a.model else [])], " ".join(sys.argv[1:])
        )


def _compare(a: argparse.Namespace) -> None:
    from ccpo import lineage
    from ccpo.oracle import claims

    claims.compare(experiment=a.experiment, diagnostics=a.diagnostics, stats=a.out)
    lineage.passport(a.out, [a.experiment, *a.diagnostics], " ".join(sys.argv[1:]))


def _analyse(a: argparse.Namespace) -> None:
    from ccpo import lineage
    from ccpo.evaluate.analyse import analyse, inputs

    analyse(experiment=a.experiment, runs=a.runs, stats=a.out)
    lineage.passport(a.out, [a.experiment, *inputs(a.experiment, a.runs)], " ".join(sys.argv[1:]))


def _figure(a: argparse.Namespace) -> None:
    from ccpo import lineage
    from ccpo.publish import draw

    draw.draw(a.name, a.stats, a.svg, a.csv)
    for made in (a.svg, a.csv):
        lineage.passport(made, [a.stats], " ".join(sys.argv[1:]))


def _table(a: argparse.Namespace) -> None:
    from ccpo import lineage
    from ccpo.publish import tables

    for made in (tables.write(a.stats, a.out), a.out):
        lineage.passport(made, [a.stats], " ".join(sys.argv[1:]))


def _report(a: argparse.Namespace) -> None:
    from ccpo import lineage
    from ccpo.publish import report

    report.write(
        stats=a.stats,
        experiment=a.experiment,
        figures=a.figures,
        table=a.table,
        runs=a.runs,
        plan=a.plan,
        out=a.out,
    )
    lineage.passport(
        a.out,
        [a.stats, a.experiment, a.table, *a.figures, *([a.plan] if a.plan else [])],
        " ".join(sys.argv[1:]),
    )


def _track(a: argparse.Namespace) -> None:
    from ccpo.publish import track

    track.track(experiment=a.experiment, runs=a.runs, stats=a.stats, uri=a.uri, out=a.out)


def _audit(a: argparse.Namespace) -> None:
    from ccpo import lineage

    print("\n".join(lineage.audit(a.path)))


def _verify(a: argparse.Namespace) -> None:
    from ccpo.grade import verifier

    print("\n".join(verifier.explain(a.text, a.truth, a.kind, a.tolerance)))


def _check(a: argparse.Namespace) -> None:
    from ccpo.config import OracleExperiment, compared, read_experiment, tasks_slug
    from ccpo.data.overlap import gate

    experiment = read_experiment(a.experiment)
    if isinstance(experiment, OracleExperiment):
        worlds = len(experiment.families) * len(experiment.shapes)
        print(
            f"oracle experiment: {len(experiment.methods)} methods, {len(experiment.advantages)} "
            f"advantages, {worlds} kinds of world"
        )
        return
    for label, runs in experiment.runs.items():
        first = next(iter(runs.values()))
        plan = first.plan()
        removed = sum(removal.n for removal in plan.removals)
        extra = (
            ", each rated by its authors"
            if plan.ratings
            else f", a critic that reads the {plan.critic}"
            if plan.critic
            else ""
        )
        print(
            f"{label}: {len(runs)} seeds, {plan.episodes} episodes and {removed} removal "
            f"episodes a task{extra}, {first.id}"
        )
        if label in experiment.presets:
            print(f"  as published: {experiment.presets[label]}")
        tables = [
            Path(f"results/tasks/{tasks_slug(choice)}.parquet")
            for choice in (first.benchmark, *first.evaluate.also)
        ]
        if all(table.is_file() for table in tables):
            gate(first, tables)
        if why := first.degenerate():
            print(f"  degenerate: {why}")
    for line in compared(experiment):
        print(line)


def _plan(a: argparse.Namespace) -> None:
    from ccpo import schema
    from ccpo.config import Experiment, read_experiment
    from ccpo.operate import forecast
    from ccpo.publish import tables

    experiment = read_experiment(a.experiment)
    if not isinstance(experiment, Experiment):
        raise ValueError(
            f"{a.experiment} is an oracle experiment; it trains nothing, and takes minutes"
        )
    slots = a.slots or (1 if a.gpus else forecast.cores())
    kept = Path(f"results/plans/{a.experiment}.json")
    pilots = (
        forecast.piloted(experiment)
        if a.pilot
        else schema.read_json(kept)["pilots"]
        if kept.is_file()
        else {}
    )
    found = forecast.forecast(experiment, pilots, slots, a.gpus)
    if a.out:
        schema.write_json(a.out, {"pilots": pilots, "forecast": found})
    print(json.dumps(found) if a.json else "\n".join(tables.forecast(found)))


def _watch(a: argparse.Namespace) -> None:
    from ccpo.config import Experiment, read_experiment
    from ccpo.operate import live, watch

    experiment = read_experiment(a.experiment)
    if not isinstance(experiment, Experiment):
        raise ValueError(f"{a.experiment} is an oracle experiment; it has no runs to watch")
    if a.json:
        print(json.dumps(watch.summary(experiment)))
    else:
        live.show(lambda: watch.summary(experiment), None if a.once else 3.0)


def _site(a: argparse.Namespace) -> None:
    from ccpo.operate import doctor

    wrong = doctor.check()
    if wrong:
        raise ValueError(
            f"{len(wrong)} thing(s) do not fit:\n" + "\n".join(f"- {line}" for line in wrong)
        )


def _failures(a: argparse.Namespace) -> None:
    from ccpo.operate import watch

    print("\n".join(watch.failures(a.log.read_text())))


def _hash(a: argparse.Namespace) -> None:
    from ccpo.schema import sha256

    print(sha256(a.path))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m ccpo", description="Credit assignment in teams of language models, audited."
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, function: object, text: str, /, **arguments: dict[str, object]) -> None:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(run=function)
        for key, options in arguments.items():
            flag = key if options.pop("positional", False) else "--" + key
            if flag.startswith("--") and "default" not in options:
                options["required"] = True
            sub.add_argument(flag, **options)  # type: ignore[arg-type]

    def path(text: str, **more: object) -> dict[str, object]:
        return {"type": Path, "help": text, **more}

    many = {"nargs": "+"}
    verb(
        "check",
        _check,
        "validate an experiment and list its conditions",
        experiment={"positional": True, "help": "name in config/experiments"},
    )
    verb(
        "data",
        _data,
        "fetch and verify raw benchmark files",
        names={"positional": True, "nargs": "*", "help": "benchmarks; none: all"},
    )
    verb(
        "tasks",
        _tasks,
        "write a benchmark's task table, and beside it what was dropped and why",
        choice={"help": "benchmark as JSON"},
        out=path("table to write; what was dropped goes to <its stem>.dropped.json"),
    )
    verb(
        "overlap",
        _overlap,
        "count the test items among the training items of benchmarks",
        train={"nargs": "*", "default": [], "help": "benchmarks; none: all with a train split"},
        test={"nargs": "*", "default": [], "help": "benchmarks; none: all with a test split"},
        out=path("CSV to write"),
    )
    verb(
        "model",
        _model,
        "prepare a model as a Hugging Face folder",
        model={"help": "model as JSON"},
        out=path("folder to write"),
    )
    verb(
        "base-models",
        _base_models,
        "make the base models that git keeps and pin them, or compare them with what is pinned",
        names={"positional": True, "nargs": "*", "help": "models; none: all of warm_start"},
        compare={
            "action": "store_true",
            "default": False,
            "help": "make them anew elsewhere, and say how they differ from the pinned ones",
        },
        slots={"type": int, "default": None, "help": "made side by side (as many as cores)"},
    )
    verb(
        "train",
        _train,
        "train one run, going on from its newest checkpoint",
        config=path("the run's config.json"),
        tasks=path(
            "task tables, the benchmark trained on first, then those of evaluate.also", **many
        ),
        model=path("model folder to start from, or one for each agent", **many),
        scratch=path("folder for checkpoints"),
        out=path("the run's folder"),
        ranks={
            "type": int,
            "default": 1,
            "help": "processes that train it together, launched by torchrun",
        },
        zero={
            "type": int,
            "default": 0,
            "help": "DeepSpeed's ZeRO stage, 0 to 3: what they do not all hold whole",
        },
        offload={
            "action": "store_true",
            "default": False,
            "help": "keep optimiser states in main memory, with --zero 1 or more",
        },
    )
    verb(
        "rollout",
        _rollout,
        "play the final policies on the test tasks, with interventions",
        config=path("the run's config.json"),
        tasks=path("task tables of the benchmarks evaluated, in the run's order", **many),
        model=path("the run's model folder"),
        untrained=path("model folder training began with, or one for each agent", **many),
        scratch=path("folder for what is played already"),
        out=path("table to write"),
    )
    verb(
        "score",
        _score,
        "grade rollouts",
        config=path("the run's config.json"),
        tasks=path("as for rollout", **many),
        rollouts=path("table of rollouts"),
        scratch=path(
            "folder of checkpoints and kept evaluations, deleted when the run is complete"
        ),
        out=path("table of scores to write"),
        graders=path("table of the papers' graders' verdicts to write"),
    )
    verb(
        "analyse",
        _analyse,
        "statistics of an experiment",
        experiment=path("experiment.json"),
        runs=path("folder of runs"),
        out=path("stats.json"),
    )
    verb(
        "diagnose",
        _diagnose,
        "measure an oracle experiment's credit methods against truth in one kind of oracle world",
        experiment=path("experiment.json of an oracle experiment"),
        family={"help": "necessity, redundancy, free_riding or sabotage"},
        shape={"help": "dyad, chain, vote or language"},
        model=path("model folder, for the shape language", default=None),
        out=path("table to write"),
    )
    verb(
        "compare",
        _compare,
        "statistics of an oracle experiment",
        experiment=path("experiment.json of an oracle experiment"),
        diagnostics=path("tables of diagnose", **many),
        out=path("stats.json"),
    )
    verb(
        "figure",
        _figure,
        "draw one figure",
        name={"positional": True},
        stats=path("stats.json"),
        svg=path("figure"),
        csv=path("plotted numbers"),
    )
    verb(
        "table",
        _table,
        "write the main table as CSV, its numbers as JSON beside it",
        stats=path("stats.json"),
        out=path("CSV to write"),
    )
    verb(
        "report",
        _report,
        "write the report page",
        stats=path("stats.json"),
        experiment=path("experiment.json"),
        figures=path("figures (SVG)", **many),
        table=path("main table (CSV)"),
        runs=path("folder of runs; not of an oracle experiment", default=None),
        plan=path("forecast made before the runs", default=None),
        out=path("page to write"),
    )
    verb(
        "track",
        _track,
        "import an experiment's runs into MLflow",
        experiment=path("experiment.json"),
        runs=path("folder of runs"),
        stats=path("stats.json"),
        uri={"help": "MLflow tracking URI"},
        out=path("JSON with the MLflow ids"),
    )
    verb(
        "audit",
        _audit,
        "walk an artefact back to its inputs and check every hash",
        path=path("figure, table or report", positional=True),
    )
    verb(
        "verify",
        _verify,
        "say what a message answers and whether it is right, step by step",
        text={"positional": True},
        truth={"positional": True},
        kind={
            "default": "number",
            "help": "number, expression, set, tuple, interval, equation, choice, text or code",
        },
        tolerance={
            "default": 0.0,
            "type": float,
            "help": "relative error, where the truth is a decimal",
        },
    )
    verb(
        "plan",
        _plan,
        "forecast a study: tokens, time, GPU-hours, disk, jobs, and the seeds that decide its "
        "question",
        experiment={"positional": True, "help": "name in config/experiments"},
        slots={
            "type": int,
            "default": None,
            "help": "runs side by side (cores; with --gpus: GPUs)",
        },
        gpus={"action": "store_true", "default": False, "help": "on GPUs, one a run"},
        pilot={
            "action": "store_true",
            "default": False,
            "help": "play a few updates of every condition first (needs its model and tasks)",
        },
        json={"action": "store_true", "default": False, "help": "print it as JSON"},
        out=path("JSON to write", default=None),
    )
    verb(
        "watch",
        _watch,
        "show a study as it stands, live, from its files",
        experiment={"positional": True, "help": "name in config/experiments"},
        once={"action": "store_true", "default": False, "help": "show it once and end"},
        json={"action": "store_true", "default": False, "help": "print it once as JSON"},
    )
    verb(
        "site",
        _site,
        "say what of this SLURM cluster and workflow/profiles/slurm does not fit together",
    )
    verb(
        "failures",
        _failures,
        "say of each job that failed in a log of Snakemake what it said last and how to run it "
        "again",
        log=path("a file of .snakemake/log", positional=True),
    )
    verb(
        "hash",
        _hash,
        "sha256 of a file or folder, as the pins use it",
        path=path("file or folder", positional=True),
    )
    return top


def main() -> int:
    """Runs a verb; bad input is one message on stderr and exit code 1."""
    arguments = parser().parse_args()
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("ccpo").setLevel(logging.INFO)
    try:
        arguments.run(arguments)
    except ValueError as error:
        print(f"ccpo {arguments.verb}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        remedy = (
            "free space, or let the folder be a link to a larger file system; then run "
            "snakemake again: what was saved is kept"
        )
        print(
            f"ccpo {arguments.verb}: {error.strerror}: {error.filename}. Remedy: {remedy}.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"ccpo {arguments.verb}: interrupted; run again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
