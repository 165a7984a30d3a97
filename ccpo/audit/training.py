"""What a training's tables say of each other: the ledger's sums, and in the updates whose messages
are kept the verdicts, rewards, credit and advantages, computed again from those messages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ccpo import advantage, credit, lineage, schema
from ccpo.advantage import Messages, role_information
from ccpo.audit.contents import Audited, ExperimentFolder
from ccpo.audit.findings import Failure
from ccpo.benchmark import Task
from ccpo.config import RunConfig, read_run, tasks_slug
from ccpo.data import overlap
from ccpo.data.tables import read_tasks
from ccpo.play.rollout import verify
from ccpo.tree import Structure, Tree, make_tree

EXACT = 1e-9  # sums of the same numbers in the same order: other only by the rows' order
COUNTED = ("generated_tokens", "evaluator_calls")


def check(experiment: ExperimentFolder, audited: Audited) -> None:
    """Checks the tables of every run of an experiment."""
    unknown: dict[str, set[str]] = {}
    for condition, _, folder in experiment.run_folders():
        try:
            run = read_run(folder / "config.json")
            tables = {
                name: schema.read_table(folder / f"{name}.parquet", name).to_pandas()
                for name in ("train", "ledger", "credit")
            }
        except ValueError:
            continue  # named as missing, or by its hash
        of_run = _Run(folder, run, tables, audited)
        of_run.ledger()
        of_run.left_out()
        table = experiment.results / "tasks" / f"{tasks_slug(run.benchmark)}.parquet"
        if run.train.steps and table.is_file():
            why = of_run.credit({task.task_id: task for task in read_tasks(table, "train")})
            if why:
                unknown.setdefault(why, set()).add(condition.label)
    for why, labels in unknown.items():
        audited.findings.unasked_for(f"credit of {', '.join(sorted(labels))}", why)


class _Run:
    """The tables of one run."""

    def __init__(
        self, folder: Path, run: RunConfig, tables: dict[str, pd.DataFrame], audited: Audited
    ) -> None:
        self.folder = folder
        self.run = run
        self.tables = tables
        self.audited = audited
        self.findings = audited.findings

    def ledger(self) -> None:
        """Totals of provenance, and the cumulative counts of the train table, from the ledger."""
        rows = self.tables["ledger"]
        path = self.folder / "ledger.parquet"
        record = self.audited.records.runs.get(self.folder)
        remedy = self._remedy(path)
        train = self.tables["train"]
        if record is not None:
            where = self.folder / lineage.PROVENANCE
            totals = {name: int(rows[name].sum()) for name in record.trained.ledger}
            self.findings.compare("ledger", where, totals, record.trained.ledger, remedy)
            updates = int(train.step.max()) if len(train) else 0
            self.findings.compare("ledger", where, updates, record.trained.updates, remedy)
        # the canary of an update is booked after its step is counted, and generates nothing
        by_step = rows.groupby("step")[list(COUNTED)].sum().cumsum()
        for name in COUNTED:
            counted = train.groupby("step")[name].agg(["min", "max"])
            for column in ("min", "max"):
                wanted = by_step[name].reindex(counted.index).tolist()
                actual = counted[column].tolist()
                column_of = f"{self.folder / 'train.parquet'}, {name}"
                self.findings.compare("ledger", column_of, wanted, actual, remedy)

    def left_out(self) -> None:
        """Training items that provenance says were left out, from the document that names them."""
        record = self.audited.records.runs.get(self.folder)
        if record is None:
            return
        named = [name for name in record.inputs if name.endswith(".held_out.json")]
        path = self.folder / lineage.PROVENANCE
        try:
            ids = overlap.gate(self.run, self.folder / named[0]) if named else frozenset[str]()
        except ValueError as error:
            self.findings.failed(
                Failure("names", str(path), "no test item is trained on", str(error), "train anew")
            )
            return
        actual = list(record.trained.left_out)
        self.findings.compare("names", path, sorted(ids), actual, self._remedy(path))

    def credit(self, tasks: dict[str, Task]) -> str:
        """Verdicts, rewards, credit, advantages and the row of the train table, of each update
        whose messages are kept; returns why not all of it, or "".
        """
        why = ""
        for step, rows in self.tables["credit"].groupby("step"):
            if not set(rows.task_id) <= set(tasks):
                self._differs(int(step), "task_id", "tasks of its table", "others")
                continue
            tree, texts = self._tree(rows, tasks)
            same = self._compare(int(step), "reward", rows, tree.reward)
            same &= self._compare(int(step), "answer", rows, np.array(texts, dtype=object))
            if same:
                why = self._credit(int(step), rows, tree) or why
                self._tokens(tree)
        return why

    def _tokens(self, tree: Tree) -> None:
        """The ledger's tokens of every update from the mean length of its messages, of which every
        update has as many as a kept one; where all factual messages are counted in that mean.
        """
        method = credit.load(self.run.credit.name)
        if self._underivable(method):
            return
        group = method.credit(tree, **self.run.credit.params)[1]
        rows = self.tables["ledger"]
        drawn = rows[rows.purpose == "rollout"].set_index(["step", "agent"]).generated_tokens
        path = self.folder / "ledger.parquet"
        for row in self.tables["train"].to_dict("records"):
            own = tree.agent == row["agent"]
            if not np.array_equal(own & (group >= 0), own & tree.factual):
                continue
            step = int(row["step"])
            agent = int(row["agent"])
            wanted = round(row["message_tokens"] * int((own & tree.factual).sum()))
            where = f"{path}, update {step}, agent {agent}, generated_tokens"
            actual = int(drawn.get((step, agent), 0))
            self.findings.compare("ledger", where, wanted, actual, self._remedy(path))

    def _tree(self, rows: pd.DataFrame, tasks: dict[str, Task]) -> tuple[Tree, list[str]]:
        """The scored tree of an update, its messages verified again; and the answers' texts."""
        order = list(dict.fromkeys(rows.task_id))
        place = {task: i for i, task in enumerate(order)}
        columns = {name: rows[name].to_numpy(np.int64) for name in ("parent", "turn", "agent")}
        structure = Structure(
            task=rows.task_id.map(place).to_numpy(np.int64),
            removed=rows.removed.to_numpy(np.int64),
            **columns,
        )
        team = self.run.build_team()
        verified = verify(list(rows.text), structure, team, [tasks[task] for task in order])
        tree = make_tree(structure, leaf_reward=verified.reward, answer=verified.answer)
        return tree, verified.texts

    def _credit(self, step: int, rows: pd.DataFrame, tree: Tree) -> str:
        """Credit by the method's own function, then advantage; why not, or ""."""
        run = self.run
        method = credit.load(run.credit.name)
        if why := self._underivable(method):
            return why
        value, group = method.credit(tree, **run.credit.params)
        if not self._compare(step, "credit", rows, value):
            return ""
        baseline = advantage.load(run.advantage.name)
        if (
            hasattr(baseline, "remember")
            or run.advantage.per_token
            or "unit" in run.advantage.params
        ):
            return "advantages depend on earlier updates or on tokens, which are not kept"
        several = run.policy != "shared"
        learner = tree.agent if several else np.zeros(len(tree), int)
        weight = np.zeros(len(tree))
        for index in np.unique(learner):
            own = learner == index
            messages = Messages(value[own], group[own])
            weight[own] = advantage.compute(run.advantage.name, messages, **run.advantage.params)
        if self._compare(step, "advantage", rows, weight):
            self._trained(step, tree, group, rows)
        return ""

    def _underivable(self, method: Any) -> str:
        """Why a method's credit does not follow from the messages alone; "" where it does."""
        plan = self.run.plan()
        if hasattr(method, "remember"):
            return "it remembers earlier updates, whose messages are not kept"
        if plan.critic or self.run.critic:
            return "it needs a critic's estimates, which are not kept"
        return "it needs ratings, which are not kept" if plan.ratings else ""

    def _trained(self, step: int, tree: Tree, group: np.ndarray, rows: pd.DataFrame) -> None:
        """What the train table says of an update."""
        table = self.tables["train"]
        shared = np.where(tree.factual, 2 * tree.reward - 1, 0.0)
        for row in table[table.step == step].to_dict("records"):
            own = np.flatnonzero((tree.agent == row["agent"]) & (group >= 0))
            weight = rows.advantage.to_numpy()[own]
            groups = np.unique(group[own], return_inverse=True)[1]
            wanted = {
                "reward": float(tree.reward[own].mean()),
                "credit": float(rows.credit.to_numpy()[own].mean()),
                "advantage_sd": float(weight.std()),
                "role_information": role_information(weight, shared[own], groups),
            }
            for name, number in wanted.items():
                if abs(number - row[name]) <= EXACT:
                    self.findings.passed("credit")
                else:
                    where = f"agent {row['agent']}, {name}"
                    self._differs(step, where, str(number), str(row[name]), "train.parquet")

    def _compare(self, step: int, name: str, rows: pd.DataFrame, wanted: np.ndarray) -> bool:
        """Whether a column is what follows from the messages; names the first row that is not."""
        actual = rows[name].to_numpy()
        if actual.dtype == object:
            apart = np.flatnonzero(actual != wanted)
        else:
            apart = np.flatnonzero(~(np.abs(actual - wanted) <= EXACT))
        if not apart.size:
            self.findings.passed("credit", len(rows))
            return True
        at = apart[0]
        where = f"message {rows.message.iloc[at]}, {name}"
        self._differs(step, where, str(wanted[at]), str(actual[at]))
        return False

    def _differs(
        self, step: int, what: str, wanted: str, actual: str, table: str = "credit.parquet"
    ) -> None:
        path = self.folder / table
        where = f"{path}, update {step}, {what}"
        self.findings.failed(Failure("credit", where, wanted, actual, self._remedy(path)))

    def _remedy(self, path: Path) -> str:
        return self.audited.records.remedy(path, self.folder / lineage.PROVENANCE)
