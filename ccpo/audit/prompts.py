"""Whether the prompts of an evaluation are those that tasks, roles and the messages of others make,
by the run's own tokenizer; and whether messages that were not drawn anew are the factual ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ccpo import benchmark, intervention, lineage, schema
from ccpo.audit.contents import Audited, ExperimentFolder
from ccpo.audit.findings import Failure
from ccpo.benchmark import Task
from ccpo.config import Protocol, RunConfig, read_protocol, read_run, tasks_slug
from ccpo.data.tables import read_tasks
from ccpo.manifest import TrainingManifest
from ccpo.play.engine import Engine
from ccpo.play.types import AgentEndpoint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST = 200  # prompts of an evaluation, spread evenly over its table
FACTUAL = "factual"
Row = Mapping[str, Any]
# benchmark, task, decoding, sample, intervention: the rows of an episode, by turn
Episodes = dict[tuple[str, str, str, int, str], dict[int, Row]]


def check(experiment: ExperimentFolder, audited: Audited) -> None:
    """Checks the rollouts of every run."""
    assert isinstance(experiment.planned, TrainingManifest)
    left = 0
    for _, _, run in experiment.run_folders():
        for planned in experiment.planned.protocols:
            path = planned.folder(run) / "rollouts.parquet"
            protocol_file = experiment.results / "protocols" / f"{planned.id}.json"
            try:
                rows = schema.read_table(path, "rollouts").to_pylist()
                config = read_run(run / "config.json")
                protocol = read_protocol(protocol_file)
                asked = _Asked.of(config, protocol, experiment, run)
            except ValueError:
                continue  # named as missing, or by its hash
            left += _of_table(rows, asked, path, audited)
    if left:
        audited.findings.unasked_for(
            f"{left:,} prompts of evaluations", f"{MOST} of each are, spread over its table"
        )


@dataclass(frozen=True)
class _Asked:
    """What prompts are made from: the config, the parameters of benchmarks by their name, tasks by
    benchmark and id, tokenizers by agent.
    """

    config: RunConfig
    params: Mapping[str, Mapping[str, Any]]
    tasks: Mapping[tuple[str, str], Task]
    tokenizers: tuple[PreTrainedTokenizerBase, ...]

    @classmethod
    def of(
        cls, config: RunConfig, protocol: Protocol, experiment: ExperimentFolder, run: Path
    ) -> _Asked:
        from transformers import AutoTokenizer

        tasks = {
            (choice.name, task.task_id): task
            for choice in protocol.benchmarks(config)
            for task in read_tasks(
                experiment.results / "tasks" / f"{tasks_slug(choice)}.parquet", "test"
            )
        }
        folders = sorted(
            (run / "model").glob("policy*"), key=lambda p: int(p.name.removeprefix("policy"))
        )
        try:
            own = [AutoTokenizer.from_pretrained(f, local_files_only=True) for f in folders]
        except OSError as error:
            raise ValueError(f"{run}: {error}") from None
        agents = config.build_team().agents
        params = {choice.name: choice.params for choice in protocol.benchmarks(config)}
        return cls(
            config, params, tasks, tuple(own[a if len(own) > 1 else 0] for a in range(agents))
        )

    def endpoints(self, name: str) -> list[AgentEndpoint]:
        """How the agents are asked on a benchmark; nothing is drawn, so there is no engine."""
        module = benchmark.load(name)
        shots = self.config.shots
        demos = tuple(module.demos(shots, **self.params[name])) if shots else ()
        nobody = cast(Engine, None)
        return [AgentEndpoint(nobody, t, demos, module.FORM) for t in self.tokenizers]


def _of_table(rows: list[Row], asked: _Asked, path: Path, audited: Audited) -> int:
    """Checks the rows of one evaluation; returns how many prompts were not looked at."""
    episodes: Episodes = defaultdict(dict)
    for row in rows:
        key = (row["benchmark"], row["task_id"], row["decoding"], row["sample"])
        episodes[(*key, row["intervention"])][row["turn"]] = row
    drawn = [row for row in rows if row["fate"] == "drawn"]
    chosen = drawn[:: max(1, -(-len(drawn) // MOST))]
    endpoints = {name: asked.endpoints(name) for name in asked.params}
    for row in chosen:
        _prompt(row, asked, endpoints[row["benchmark"]], episodes, path, audited)
    for row in rows:
        if row["fate"] == "kept":
            _kept(row, episodes, path, audited)
    return len(drawn) - len(chosen)


def _prompt(
    row: Row,
    asked: _Asked,
    endpoints: list[AgentEndpoint],
    episodes: Episodes,
    path: Path,
    audited: Audited,
) -> None:
    """One prompt."""
    team = asked.config.build_team()
    label = row["intervention"]
    change = intervention.Change() if label == FACTUAL else intervention.change_of(team, label)
    key = (row["benchmark"], row["task_id"], row["decoding"], row["sample"], label)
    of_episode = episodes[key]
    turn = row["turn"]
    task = asked.tasks.get((row["benchmark"], row["task_id"]))
    question = "" if task is None or turn in change.unasked else task.question
    reads = [read for read in team.turns[turn].reads if read in of_episode]
    texts = [team.as_read(of_episode[read]["completion"]) for read in reads]
    role = team.role(turn, intervention.present(team, change))
    endpoint = endpoints[row["agent"]]
    token_ids = endpoint.prompt(role, question, texts)
    wanted = (str(endpoint.tokenizer.decode(token_ids)), len(token_ids))
    _compare(row, wanted, (row["prompt"], row["n_prompt_tokens"]), path, audited)


def _kept(row: Row, episodes: Episodes, path: Path, audited: Audited) -> None:
    """A message that an intervention leaves as it was."""
    key = (row["benchmark"], row["task_id"], row["decoding"], row["sample"], FACTUAL)
    factual = episodes.get(key, {}).get(row["turn"])
    wanted = None if factual is None else factual["completion"]
    _compare(row, wanted, row["completion"], path, audited)


def _compare(row: Row, wanted: object, actual: object, path: Path, audited: Audited) -> None:
    if wanted == actual:
        audited.findings.passed("prompts")
        return
    if any(
        f.part == "prompts" and f.path.startswith(f"{path},") for f in audited.findings.failures
    ):
        audited.findings.checks["prompts"] += 1  # a table is named once
        return
    place = [row[name] for name in ("benchmark", "task_id", "decoding", "sample", "intervention")]
    where = f"{path}, {' '.join(map(str, place))}, turn {row['turn']}"
    remedy = audited.records.remedy(path, lineage.passport_of(path))
    audited.findings.failed(Failure("prompts", where, str(wanted), str(actual), remedy))
