"""The command line, `ccpo VERB` or `python -m ccpo VERB`: what people call to look around, and what
the workflow's rules call. Each verb imports what it needs, after its paths were looked at.
"""

from __future__ import annotations

import errno
import functools
import io
import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from ccpo import __version__

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Credit assignment in teams of language models, audited.",
)


class SpacedLists(TyperCommand):
    """A command whose options of several values take them one after the other, as a rule's
    `--tasks {input.tasks}` writes them.
    """

    # typer.Context is the public name of the Context of typer's own commands
    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        several = {
            name
            for option in self.params
            if option.param_type_name == "option" and getattr(option, "multiple", False)
            for name in option.opts
        }
        return super().parse_args(ctx, repeated(args, several))


def repeated(words: list[str], several: set[str]) -> list[str]:
    """`--tasks a b` as `--tasks a --tasks b`, for the options named in `several`."""
    out: list[str] = []
    option = ""
    for word in words:
        if word.startswith("--"):
            option = word if word in several else ""
            is_value = False
        else:
            is_value = bool(option) and out[-1] != option
        out += [option, word] if is_value else [word]
    return out


def _file(path: Path | list[Path] | None) -> Path | list[Path] | None:
    """Refuses a path where no file is."""
    for one in path if isinstance(path, list) else [path] if path else []:
        _existing(one)
        if not one.is_file():
            raise ValueError(f"{one} is a folder, and a file is needed.")
    return path


def _folder(path: Path | list[Path] | None) -> Path | list[Path] | None:
    """Refuses a path where no folder is."""
    for one in path if isinstance(path, list) else [path] if path else []:
        _existing(one)
        if not one.is_dir():
            raise ValueError(f"{one} is a file, and a folder is needed.")
    return path


def _existing(path: Path | None) -> Path | None:
    """Refuses a path where nothing is."""
    if path and not path.exists():
        raise ValueError(
            f"{path} does not exist. Remedy: correct the path, or make it (snakemake {path})."
        )
    return path


def _existing_paths(paths: list[Path]) -> list[Path]:
    """Refuses paths where nothing is."""
    for path in paths:
        _existing(path)
    return paths


def _experiment_name(text: str) -> str:
    """The name of an experiment, which may be given as its file."""
    path = Path(text)
    if path.suffix not in (".yaml", ".yml") and len(path.parts) == 1:
        return text
    if (
        path.suffix == ".yaml"
        and path.is_file()
        and path.resolve().parent == Path("config", "experiments").resolve()
    ):
        return path.stem
    raise ValueError(
        f"{text} is a path, and no file of config/experiments. Remedy: put the file there, and "
        f"name it: {path.stem}"
    )


people = functools.partial(app.command, rich_help_panel="For people")
rules = functools.partial(
    app.command, cls=SpacedLists, rich_help_panel="Called by the workflow's rules"
)

ExperimentName = Annotated[
    str,
    typer.Argument(callback=_experiment_name, help="Name of a file in config/experiments."),
]
RunConfigPath = Annotated[Path, typer.Option(callback=_file, help="The run's config.json.")]
ProtocolPath = Annotated[Path, typer.Option(callback=_file, help="The protocol's JSON file.")]
TaskTable = Annotated[
    Path, typer.Option(callback=_file, help="Task table of the benchmark trained on.")
]
TestTables = Annotated[
    list[Path],
    typer.Option(callback=_file, help="Task tables of what is evaluated, in the protocol's order."),
]
ManifestPath = Annotated[Path, typer.Option(callback=_file, help="The experiment.json.")]
StatsPath = Annotated[Path, typer.Option(callback=_file, help="The stats.json.")]
RunsFolder = Annotated[Path, typer.Option(callback=_folder, help="Folder of runs.")]
Scratch = Annotated[Path, typer.Option(help="Folder for checkpoints and kept evaluations.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


@people()
def check(experiment: ExperimentName) -> None:
    """Validate an experiment and list its conditions."""
    from ccpo.config import read_experiment
    from ccpo.operate import describe

    for line in describe.describe(read_experiment(experiment)):
        print(line)


@people()
def published(
    paper: Annotated[str, typer.Argument(help="Name of a paper; none: all.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="CSV to write: every value with its arithmetic.")
    ] = None,
) -> None:
    """Say what of the papers' printed values is known, and which cannot be what they say."""
    from ccpo import schema
    from ccpo.publish import arithmetic
    from ccpo.publish import published as values

    known = values.read()
    print("\n".join(arithmetic.summary(known, paper)))
    if out:
        schema.write_text(out, arithmetic.as_csv(known, paper))


@people()
def plan(
    experiment: ExperimentName,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Runs side by side (cores; with --gpus: GPUs).")
    ] = None,
    gpus: Annotated[bool, typer.Option("--gpus", help="On GPUs, one a run.")] = False,
    pilot: Annotated[
        bool,
        typer.Option(
            "--pilot",
            help="Play a few updates of every condition first (needs its model and tasks).",
        ),
    ] = False,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
) -> None:
    """Forecast an experiment: tokens, time, GPU-hours, disk, jobs, and seeds that decide."""
    from ccpo.operate import forecast
    from ccpo.operate.describe import training_experiment
    from ccpo.publish.forecast import lines

    document = forecast.make(training_experiment(experiment), slots, gpus, pilot, out)
    print(document.model_dump_json() if as_json else "\n".join(lines(document)))


@people()
def watch(
    experiment: ExperimentName,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show an experiment as it stands, live, from its files."""
    from ccpo.operate import live
    from ccpo.operate.describe import training_experiment
    from ccpo.operate.watch import summary

    training = training_experiment(experiment)
    if as_json:
        print(json.dumps(asdict(summary(training))))
    else:
        live.show(lambda: summary(training), None if once else 3.0)


@people()
def audit(
    paths: Annotated[
        list[Path],
        typer.Argument(
            callback=_existing_paths,
            help="An experiment's folder or page, or a figure of it; a run; another artefact.",
        ),
    ],
    every: Annotated[
        bool, typer.Option("--all", help="Every experiment below the folder, all failures in full.")
    ] = False,
    anchor: Annotated[
        bool, typer.Option("--anchor", help="Compare with published/, which git keeps.")
    ] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Play every evaluation again.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Train the run again.")] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Why two runs or experiments differ.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """From an artefact back to its bytes: is all of it there, as recorded, and derived again alike?

    Exit code 0: all that was checked holds. 1: something does not, or cannot be read. 3: nothing
    differs, but not all could be checked (other code or packages, no repository, no raw file).
    """
    from ccpo.audit import audit as audits
    from ccpo.audit import difference, findings

    if len(paths) != (2 if diff else 1):
        raise ValueError(
            f"audit: {len(paths)} paths are named. Remedy: name one; or two with --diff."
        )
    if diff:
        print("\n".join(difference.lines(*paths)))
        return findings.PASSED
    asked = audits.Asked(anchor=anchor, deep=deep)
    if replay:
        made = [audits.replayed(paths[0])]
    elif every:
        made = list(audits.everything(paths[0], asked=asked))
    else:
        made = [audits.of_path(paths[0], asked=asked)]
    if as_json:
        print(json.dumps([findings.as_json(each) for each in made]))
    else:
        print("\n".join(line for each in made for line in findings.lines(each, every)))
    return findings.worst(made)


@people()
def publish(
    experiment: Annotated[
        Path,
        typer.Argument(callback=_folder, help="Folder of a finished experiment."),
    ],
    sign: Annotated[
        Path | None,
        typer.Option(callback=_file, help="Key of ssh-keygen to sign the anchor with."),
    ] = None,
) -> None:
    """Audit an experiment; write its anchor and numbers to published/, for git, and all it is made
    of as a bundle, for dvc push.
    """
    from ccpo.audit import publish as publication

    for line in publication.publish(experiment, sign):
        print(line)


@people()
def verify(
    text: Annotated[str, typer.Argument(help="What the message says.")],
    truth: Annotated[str, typer.Argument(help="The right answer.")],
    kind: Annotated[
        str,
        typer.Option(
            help="number, expression, set, tuple, interval, equation, choice, text or code."
        ),
    ] = "number",
    tolerance: Annotated[
        float, typer.Option(help="Relative error, where the truth is a decimal.")
    ] = 0.0,
) -> None:
    """Say what a message answers and whether it is right, step by step."""
    from ccpo.grade import verifier

    print("\n".join(verifier.explain(text, truth, kind, tolerance)))


@people()
def data(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks; none: all.")] = None,
) -> None:
    """Fetch and verify raw benchmark files."""
    from ccpo.data import door

    door.data(names or [])


@people(cls=SpacedLists)
def overlap(
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    train: Annotated[
        list[str] | None, typer.Option(help="Benchmarks; none: all with a train split.")
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="Benchmarks; none: all with a test split.")
    ] = None,
) -> None:
    """Count the test items among the training items of benchmarks."""
    from ccpo.data import door

    door.overlap_table(train or [], test or [], out)


@people(name="base-models")
def base_models(
    names: Annotated[
        list[str] | None, typer.Argument(help="Models; none: all of warm_start.")
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Make them anew elsewhere, and say how they differ from the pinned ones.",
        ),
    ] = False,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Made side by side (as many as cores).")
    ] = None,
) -> None:
    """Make the base models that git keeps and pin them, or compare them with what is pinned."""
    from ccpo.models import base_models
    from ccpo.operate import forecast

    follow = base_models.compare if compare else base_models.pin
    follow(names or [], slots=slots or forecast.cores())


@people()
def doctor() -> None:
    """Say what of this SLURM cluster and workflow/profiles/slurm does not fit together."""
    from ccpo.operate import doctor

    doctor.report()


@people()
def failures(
    log: Annotated[Path, typer.Argument(callback=_file, help="A file of .snakemake/log.")],
) -> None:
    """Say why jobs failed, from a log of Snakemake, and how to run each again."""
    from ccpo.operate import watch

    print("\n".join(watch.failures(log.read_text(errors="replace"))))


@people(name="hash")
def hash_of(
    path: Annotated[Path, typer.Argument(callback=_existing, help="A file or folder.")],
) -> None:
    """Print the sha256 of a file or folder, as the pins use it."""
    from ccpo import files

    print(files.sha256(path))


@rules()
def tasks(
    choice: Annotated[str, typer.Option(help="The benchmark and its parameters, as JSON.")],
    out: Annotated[
        Path, typer.Option(help="Table to write; what was dropped goes to <stem>.dropped.json.")
    ],
) -> None:
    """Write a benchmark's task table, and beside it what was dropped and why."""
    from ccpo.config import Choice
    from ccpo.data import door

    door.tasks(Choice.model_validate_json(choice), out)


@rules()
def held_out(
    tasks: TaskTable,
    tests: Annotated[
        list[Path], typer.Option(callback=_file, help="Task tables whose test items to look for.")
    ],
    out: Annotated[Path, typer.Option(help="Document to write.")],
) -> None:
    """Write which training items are test items."""
    from ccpo.data import overlap

    overlap.hold_out(tasks, tests, out)


@rules()
def model(
    model: Annotated[str, typer.Option(help="The model as JSON.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
) -> None:
    """Prepare a model as a Hugging Face folder."""
    from ccpo.config import Model
    from ccpo.models import prepare

    prepare.prepare(Model.model_validate_json(model), out)


@rules()
def train(
    config: RunConfigPath,
    tasks: TaskTable,
    model: Annotated[
        list[Path],
        typer.Option(callback=_folder, help="Model folder to start from, or one for each agent."),
    ],
    scratch: Scratch,
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    held_out: Annotated[
        Path | None,
        typer.Option(callback=_file, help="What `held-out` wrote; not where nothing is trained."),
    ] = None,
    ranks: Annotated[
        int, typer.Option(min=1, help="Processes that train it together, launched by torchrun.")
    ] = 1,
    zero: Annotated[int, typer.Option(help="DeepSpeed's ZeRO stage, 0 to 3.")] = 0,
    offload: Annotated[
        bool,
        typer.Option(
            "--offload", help="Keep optimiser states in main memory, with --zero 1 or more."
        ),
    ] = False,
    keep: Annotated[
        list[float] | None, typer.Option(help="Shares of the training whose weights are kept.")
    ] = None,
) -> None:
    """Train one run, going on from its newest checkpoint."""
    from ccpo.config import read_run
    from ccpo.data import overlap
    from ccpo.operate import slurm
    from ccpo.ranks import Sharding

    sharding = Sharding(zero, offload)
    if command := slurm.launch(sys.argv[1:]):
        os.execvp(command[0], command)
    # before torch and any model is loaded
    without = overlap.gate(read_run(config), held_out) if held_out else frozenset[str]()
    from ccpo.learn import train as training

    try:
        training.train(
            config=config,
            tasks=tasks,
            model=model,
            scratch=scratch,
            out=out,
            options=training.Options(without, held_out, tuple(keep or ()), ranks, sharding),
        )
    except training.Interrupted as stop:
        if stop.progress and stop.first and (outcome := slurm.requeue()):
            print(f"ccpo train: {outcome}", file=sys.stderr)
        raise


@rules()
def rollout(
    config: RunConfigPath,
    provenance: Annotated[Path, typer.Option(callback=_file, help="The run's provenance.json.")],
    protocol: ProtocolPath,
    trained_on: TaskTable,
    tasks: TestTables,
    model: Annotated[Path, typer.Option(callback=_folder, help="The run's model folder.")],
    untrained: Annotated[
        list[Path],
        typer.Option(
            callback=_folder, help="Model folder training began with, or one for each agent."
        ),
    ],
    scratch: Scratch,
    out: Annotated[Path, typer.Option(help="Table to write.")],
) -> None:
    """Play a run's final policies by a protocol: on test tasks, with interventions."""
    from ccpo.evaluate import evaluate
    from ccpo.evaluate.parts import Sources

    sources = Sources(
        config, provenance, protocol, trained_on, tuple(tasks), model, tuple(untrained)
    )
    evaluate.rollout(sources, scratch=scratch, out=out)


@rules()
def score(
    config: RunConfigPath,
    protocol: ProtocolPath,
    tasks: TestTables,
    rollouts: Annotated[Path, typer.Option(callback=_file, help="Table of rollouts.")],
    scratch: Annotated[
        list[Path],
        typer.Option(help="Folders of checkpoints and kept evaluations, deleted in the end."),
    ],
    out: Annotated[Path, typer.Option(help="Table of scores to write.")],
    graders: Annotated[Path, typer.Option(help="Table of the papers' graders' verdicts to write.")],
) -> None:
    """Grade rollouts."""
    from ccpo.evaluate import evaluate

    played = evaluate.Played(config, protocol, tuple(tasks), rollouts)
    evaluate.score(played, scratch=scratch, out=out, graders=graders)


@rules()
def analyse(
    experiment: ManifestPath,
    runs: RunsFolder,
    out: Annotated[Path, typer.Option(help="The stats.json to write.")],
) -> None:
    """Write the statistics of an experiment."""
    from ccpo.evaluate import analyse

    analyse.analyse(experiment=experiment, runs=runs, stats=out)


@rules()
def diagnose(
    experiment: ManifestPath,
    family: Annotated[str, typer.Option(help="necessity, redundancy, free_riding or sabotage.")],
    shape: Annotated[str, typer.Option(help="dyad, chain, vote or language.")],
    out: Annotated[Path, typer.Option(help="Table to write.")],
    model: Annotated[
        Path | None, typer.Option(callback=_folder, help="Model folder, for the shape language.")
    ] = None,
) -> None:
    """Measure an oracle experiment's credit methods against truth in one kind of oracle world."""
    from ccpo.oracle import diagnose

    diagnose.of_experiment(experiment, family, shape, model, out)


@rules()
def compare(
    experiment: ManifestPath,
    diagnostics: Annotated[list[Path], typer.Option(callback=_file, help="Tables of diagnose.")],
    out: Annotated[Path, typer.Option(help="The stats.json to write.")],
) -> None:
    """Write the statistics of an oracle experiment."""
    from ccpo.oracle import claims

    claims.compare(experiment=experiment, diagnostics=diagnostics, stats=out)


@rules()
def figure(
    name: Annotated[str, typer.Argument(help="Name of the figure.")],
    stats: StatsPath,
    svg: Annotated[Path, typer.Option(help="Figure to write.")],
    csv: Annotated[Path, typer.Option(help="Plotted numbers to write.")],
) -> None:
    """Draw one figure."""
    from ccpo.publish import draw

    draw.draw(name, stats, svg, csv)


@rules()
def table(
    stats: StatsPath,
    out: Annotated[Path, typer.Option(help="CSV to write.")],
) -> None:
    """Write the main table as CSV, its numbers as JSON beside it."""
    from ccpo.publish import tables

    tables.write(stats, out)


@rules()
def beside_paper(
    stats: StatsPath,
    experiment: ManifestPath,
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
) -> None:
    """Write published values beside reproduced ones, and the deviations from the paper."""
    from ccpo.publish import reproduced

    reproduced.write(experiment, stats, out)


@rules()
def report(
    stats: StatsPath,
    experiment: ManifestPath,
    figures: Annotated[list[Path], typer.Option(callback=_file, help="Figures (SVG).")],
    table: Annotated[Path, typer.Option(callback=_file, help="Main table (CSV).")],
    out: Annotated[Path, typer.Option(help="Page to write.")],
    runs: Annotated[
        Path | None,
        typer.Option(callback=_folder, help="Folder of runs; not of an oracle experiment."),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(callback=_file, help="Forecast made before the runs.")
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(callback=_file, help="Published values beside reproduced ones (CSV)."),
    ] = None,
) -> None:
    """Write the report page."""
    from ccpo.publish import report

    report.write(report.Files(stats, experiment, figures, table, runs, plan, published), out)


@rules()
def track(
    experiment: ManifestPath,
    runs: RunsFolder,
    stats: StatsPath,
    uri: Annotated[str, typer.Option(help="MLflow tracking URI.")],
    out: Annotated[Path, typer.Option(help="JSON with the MLflow ids.")],
) -> None:
    """Import an experiment's runs into MLflow."""
    from ccpo.publish import track

    if warning := track.track(track.Source(experiment, runs, stats, uri), out):
        print(f"warning: {warning}", file=sys.stderr)


@rules()
def probe(
    config: RunConfigPath,
    probe: Annotated[Path, typer.Option(callback=_file, help="The probe's JSON file.")],
    tasks: TaskTable,
    model: Annotated[
        list[Path],
        typer.Option(
            callback=_folder, help="Folder of what training left, kept, or began with (several)."
        ),
    ],
    scratch: Scratch,
    out: Annotated[Path, typer.Option(help="Table of messages to write.")],
) -> None:
    """Draw a run's probe: contexts, candidates and replays."""
    from ccpo.evaluate.probing import drawing

    sources = drawing.Sources(config, probe, tasks, drawing.policies_in(model))
    drawing.draw(sources, scratch=scratch, out=out)


@rules()
def probe_credit(
    config: RunConfigPath,
    tasks: TaskTable,
    messages: Annotated[Path, typer.Option(callback=_file, help="Table of messages.")],
    scratch: Annotated[Path, typer.Option(help="Folder of the drawing, deleted in the end.")],
    table: Annotated[Path, typer.Option(help="Table of replays to write.")],
    diagnostics: Annotated[Path, typer.Option(help="Diagnostics to write.")],
) -> None:
    """Give the verdicts of a probe, and measure credit on it."""
    from ccpo.evaluate.probing import measuring

    drawn = measuring.Drawn(config, tasks, messages)
    measuring.measure(drawn, scratch=scratch, table=table, diagnostics=diagnostics)


CrossPath = Annotated[Path, typer.Option(callback=_file, help="The plan of the cross-play.")]
PlayedTable = Annotated[Path, typer.Option(callback=_file, help="Task table of what is played.")]


@rules()
def cross(
    plan: CrossPath,
    seed: Annotated[int, typer.Option(help="Training seed.")],
    runs: RunsFolder,
    models: Annotated[Path, typer.Option(callback=_folder, help="Folder of base models.")],
    trained_on: TaskTable,
    tasks: PlayedTable,
    scratch: Scratch,
    out: Annotated[Path, typer.Option(help="Table of rollouts to write.")],
) -> None:
    """Play teams whose agents come from several conditions."""
    from ccpo.evaluate import cross_play

    sources = cross_play.CrossSources(plan, seed, runs, models, trained_on, tasks)
    cross_play.play(sources, scratch=scratch, out=out)


@rules()
def cross_score(
    plan: CrossPath,
    config: RunConfigPath,
    tasks: PlayedTable,
    rollouts: Annotated[Path, typer.Option(callback=_file, help="Table of rollouts.")],
    scratch: Annotated[Path, typer.Option(help="Folder of what was kept, deleted in the end.")],
    out: Annotated[Path, typer.Option(help="Table of verdicts to write.")],
) -> None:
    """Grade cross-play."""
    from ccpo.evaluate import cross_play

    played = cross_play.CrossPlayed(plan, config, tasks, rollouts)
    cross_play.score(played, scratch=scratch, out=out)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ccpo {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """Credit assignment in teams of language models, audited."""


def main() -> int:
    """Runs a verb; what is wrong with the input is one message on stderr, and exit code 1, or 2
    where it is the command line itself.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show is no error
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("ccpo").setLevel(logging.INFO)
    words = sys.argv[1:] or ["--help"]
    name = f"ccpo {words[0]}"
    try:
        code = app(words, prog_name="ccpo", standalone_mode=False) or 0
        sys.stdout.flush()
    except typer.TyperException as error:
        print(f"{name}: {error.format_message()}", file=sys.stderr)
        return error.exit_code
    except ValueError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who read has read enough; what is left must not be written at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        print(
            f"{name}: {error.strerror}: {error.filename}. Remedy: {_remedy(error)}.",
            file=sys.stderr,
        )
        return 1
    if code == 130:
        print(f"{name}: interrupted; run again to go on", file=sys.stderr)
    return int(code)


def _remedy(error: OSError) -> str:
    """What can be done about a path that cannot be read or written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            "free space, or let the folder be a link to a larger file system; then run "
            "snakemake again: what was saved is kept"
        )
    return "correct the path, or who may read and write it"


if __name__ == "__main__":
    sys.exit(main())
