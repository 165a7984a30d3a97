"""Table schemas with checked, atomic reading and writing: the only Parquet I/O of the project.

Every Parquet file carries its schema's name and version; `read` refuses any other. Whoever reads
and writes tables finds the other kinds of files here too (ccpo/files.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ccpo.files import (
    check_manifest,
    check_touched_manifest,
    manifest_of,
    new_folder,
    read_json,
    sha256,
    write_bytes,
    write_json,
    write_manifest,
    write_text,
)

Table = pa.Table

__all__ = [
    "TABLES",
    "Table",
    "check_manifest",
    "check_touched_manifest",
    "foreign_rows",
    "manifest_of",
    "new_folder",
    "parquet_rows",
    "read_json",
    "read_table",
    "rows_to_table",
    "sha256",
    "to_table",
    "write_bytes",
    "write_json",
    "write_manifest",
    "write_table",
    "write_text",
]

_I32 = pa.int32()
_I64 = pa.int64()
_F64 = pa.float64()
_STR = pa.string()
_BOOL = pa.bool_()
_LIST = pa.list_(pa.field("item", pa.float64(), nullable=False))

# name -> (version, columns). A column's order is the order on disk.
TABLES: dict[str, tuple[int, dict[str, pa.DataType]]] = {
    # One row per task of a benchmark.
    "tasks": (
        3,
        {
            "split": _STR,
            "task_id": _STR,
            "question": _STR,
            "truth": _STR,
            "kind": _STR,
            "tolerance": _F64,
            "origin": _STR,
            # what is known to be wrong with the item or its key ("": nothing)
            "defect": _STR,
        },
    ),
    # One row per (update, agent). Token and evaluator counts are cumulative over the team, up to
    # and including the update.
    "train": (
        4,
        {
            "step": _I32,
            "agent": _I32,
            "active": _BOOL,
            "reward": _F64,
            "credit": _F64,
            "advantage_sd": _F64,
            "role_information": _F64,
            # share of its ratings that could be read; 0 where none are asked for
            "rating_valid": _F64,
            # root mean squared error of the critic before it learnt from the update; 0 without one
            "critic_error": _F64,
            "loss": _F64,
            "grad_norm": _F64,
            "clip_fraction": _F64,
            "entropy": _F64,
            "logprob_gap": _F64,
            "message_tokens": _F64,
            "truncated": _F64,
            # share of its messages that are empty, since the prompt left no room in the context
            "no_room": _F64,
            "leakage": _F64,
            "generated_tokens": _I64,
            "evaluator_calls": _I64,
            # verdicts that were not reached, of the evaluator calls; counted as wrong
            "late": _I64,
        },
    ),
    # One row per message of the updates that are kept. `removed` is the agent left out (-1:
    # factual).
    "credit": (
        1,
        {
            "step": _I32,
            "task_id": _STR,
            "message": _I32,
            "parent": _I32,
            "turn": _I32,
            "agent": _I32,
            "removed": _I32,
            "reward": _F64,
            "credit": _F64,
            "advantage": _F64,
            "answer": _STR,
            "text": _STR,
        },
    ),
    # Counted, never computed. One row per (update, agent, purpose); seconds are in `seconds`, since
    # they can never repeat.
    "ledger": (
        1,
        {
            "step": _I32,
            "agent": _I32,
            "purpose": _STR,
            "prompt_tokens": _I64,
            "generated_tokens": _I64,
            "trained_tokens": _I64,
            "evaluator_calls": _I64,
        },
    ),
    # Wall seconds of one update by part (rollout, verify, credit, update, refresh, save).
    "seconds": (1, {"step": _I32, "part": _STR, "seconds": _F64}),
    # One row per (update, policy that learnt, name): `gap`, largest difference of engine's and
    # trainer's log-probs of fixed messages after the update; `retokenized`, the share of messages
    # whose text has other tokens than were drawn; `ratio a..b`, shares of tokens by importance
    # ratio.
    "canary": (1, {"step": _I32, "policy": _I32, "name": _STR, "value": _F64}),
    # One row per message of the evaluation. `intervention`: a file of ccpo/intervention, and after
    # a dot the agent that it changes. `fate`: drawn under it; kept from the factual team; or
    # altered, as its readers and the vote get it. Tokens are those drawn under the intervention: 0
    # of a kept or altered message. `logprob`: sum over them at the temperature they were drawn
    # with, at temperature 1 if greedy.
    "rollouts": (
        3,
        {
            "benchmark": _STR,
            "task_id": _STR,
            "decoding": _STR,
            "sample": _I32,
            "intervention": _STR,
            "turn": _I32,
            "agent": _I32,
            "fate": _STR,
            "prompt": _STR,
            "completion": _STR,
            "n_prompt_tokens": _I32,
            "n_completion_tokens": _I32,
            "logprob": _F64,
            "finish_reason": _STR,
        },
    ),
    # One row per (family, shape, instance of a world, method, advantage, turn): error against
    # truth, see ccpo/oracle/diagnose.py.
    "diagnostics": (
        2,
        {
            "family": _STR,
            "shape": _STR,
            "instance": _I32,
            "method": _STR,
            "advantage": _STR,
            "turn": _I32,
            "batch_tasks": _I32,
            "scale": _F64,
            "bias": _F64,
            "bias_raw": _F64,
            "variance": _F64,
            "mse": _F64,
            "mse_tokens": _F64,
            "mse_calls": _F64,
            "advantage_sd": _F64,
            "spearman": _F64,
            "cosine": _F64,
            "norm_ratio": _F64,
            "batch_cosine": _F64,
            "team_cosine": _F64,
            "noise_tokens": _F64,
            "noise_calls": _F64,
            "outcome_correlation": _F64,
            "sampled_worst": _F64,
            "sampled_cells": _I32,
            "tokens": _F64,
            "evaluator_calls": _F64,
            "role_information": _F64,
        },
    ),
    # One row per factual (benchmark, task, decoding, sample) of teams whose last message answers,
    # for kinds of answers that the papers' graders were used on: our verdict and theirs
    # (ccpo/grade/paper_graders.py).
    "graders": (
        2,
        {
            "benchmark": _STR,
            "task_id": _STR,
            "decoding": _STR,
            "sample": _I32,
            "answer": _STR,
            "truth": _STR,
            "accuracy": _F64,
            "c3": _F64,
            "ccpo": _F64,
        },
    ),
    # One row per (benchmark, task, decoding, sample, intervention): the team's answer and its
    # verdict; tokens and log-probs of the messages that were drawn for it. `ballot`: the class of
    # its answer among those of the task's samples: 0 right, -1 none, from 1 on the wrong ones,
    # equal where the verifier holds them for equal.
    "scores": (
        5,
        {
            "benchmark": _STR,
            "task_id": _STR,
            "decoding": _STR,
            "sample": _I32,
            "intervention": _STR,
            "answer": _STR,
            "truth": _STR,
            "ballot": _I32,
            "accuracy": _F64,
            # of a program's tests that passed; for other kinds of answers as accuracy
            "fraction": _F64,
            # an earlier message holds the truth; that of another task, which is met by chance
            "leakage": _F64,
            "leakage_by_chance": _F64,
            # the same of each agent's messages that others read
            "leaks": _LIST,
            "leaks_by_chance": _LIST,
            # under message_only: its answer is right for a task with another truth
            "accuracy_by_chance": _F64,
            # share of its altered messages that are others than the factual ones
            "replaced": _F64,
            # verdicts of its messages that were not reached, counted as wrong; and (at a task's
            # first sample) comparisons of its samples' answers, where spelling decides then
            "late": _I32,
            # something is known to be wrong with the item or its key
            "defect": _BOOL,
            # the class of each vote (0 right, -1 none, from 1 on wrong answers), "": no vote
            "votes": _STR,
            "n_tokens": _I32,
            "logprob": _F64,
        },
    ),
    # One row per message of a probe. `probed`: the turn whose candidates it belongs to (-1: the
    # team's own play, that contexts are taken from; or an episode without agent `removed`).
    # `candidate`: -1 in own play, else its number (of an episode without an agent: the episode's).
    # `replay`: -1 for what is not drawn below a candidate.
    "probe_messages": (
        1,
        {
            "probed": _I32,
            "context": _I32,
            "task_id": _STR,
            "candidate": _I32,
            "replay": _I32,
            "turn": _I32,
            "agent": _I32,
            "removed": _I32,
            "text": _STR,
            "tokens": _I32,
            "logprob": _F64,
            "finish_reason": _STR,
        },
    ),
    # One row per replay of a probe (turn, context, candidate, replay); a candidate that nothing
    # follows has one. With `removed` >= 0: an episode without that agent (turn -1).
    "probe": (
        1,
        {
            "turn": _I32,
            "agent": _I32,
            "context": _I32,
            "task_id": _STR,
            "candidate": _I32,
            "replay": _I32,
            "removed": _I32,
            # 16 hex digits of the candidate's whole text, and of the next message's
            "text": _STR,
            "next_text": _STR,
            "reward": _F64,
            # class of the team's answer within its task: 0 correct, 1, 2, ... others, -1 none, -2 a
            # vote that several answers lead
            "answer": _I32,
            # class of each voter's answer, joined by commas; "" where nobody votes
            "votes": _STR,
            # verdicts that were not reached, of the episode; counted as wrong
            "late": _I32,
            # of the candidate
            "tokens": _I32,
            "logprob": _F64,
        },
    ),
    # One row per (team, task, sample) of a seed's cross-play. `seats`: the condition of each agent,
    # between bars.
    "cross": (
        1,
        {
            "task_id": _STR,
            "sample": _I32,
            "seats": _STR,
            "answer": _STR,
            "accuracy": _F64,
            # verdicts of its messages that were not reached; counted as wrong
            "late": _I32,
        },
    ),
}


def _arrow_schema(name: str) -> pa.Schema:
    version, columns = TABLES[name]
    return pa.schema(
        [pa.field(c, t, nullable=False) for c, t in columns.items()],
        {"ccpo.schema": f"{name}/{version}"},
    )


def to_table(name: str, columns: Mapping[str, Any]) -> pa.Table:
    """Columns (sequences of equal length) as a checked table.

    Raises:
        ValueError: a column is missing, unknown, of another length, holds a null, or (except where
            stated) NaN or infinity.
    """
    schema = _arrow_schema(name)
    if set(columns) != set(schema.names):
        missing = set(schema.names) - set(columns)
        unknown = set(columns) - set(schema.names)
        raise ValueError(
            f"table {name}: missing columns {sorted(missing)}, unknown columns {sorted(unknown)}"
        )
    table = pa.table(
        {c: pa.array(columns[c], schema.field(c).type) for c in schema.names}, schema=schema
    )
    for column in schema.names:
        array = table.column(column)
        if array.null_count:
            raise ValueError(
                f"table {name}, column {column}: {array.null_count} nulls; every value must be "
                "given"
            )
        if pa.types.is_floating(array.type):
            values = array.to_numpy()
            bad = np.flatnonzero(~np.isfinite(values))
            if bad.size:
                raise ValueError(
                    f"table {name}, column {column}, row {bad[0]}: {values[bad[0]]} is not finite"
                )
    return table


def rows_to_table(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as a checked table; see `to_table`."""
    rows = list(rows)
    columns = TABLES[name][1]
    texts = {c for c, kind in columns.items() if kind == _STR}
    return to_table(
        name, {c: [_text(row[c]) if c in texts else row[c] for row in rows] for c in columns}
    )


def _text(value: Any) -> Any:
    """A text that UTF-8 can hold: lone surrogates as escapes."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def write_table(path: str | Path, table: pa.Table) -> None:
    """Writes a table made by `to_table`, atomically; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_bytes(path, sink.getvalue().to_pybytes())


def read_table(path: str | Path, name: str, columns: list[str] | None = None) -> pa.Table:
    """Reads a table and checks that it is `name` at the version this code knows.

    Raises:
        ValueError: the file is missing, not Parquet, or of another schema or version.
    """
    if not Path(path).is_file():
        raise ValueError(
            f"{path} does not exist. Remedy: run the rule that makes it (snakemake {path})."
        )
    want = f"{name}/{TABLES[name][0]}"
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path, error) from None
    have = metadata.get(b"ccpo.schema", b"no ccpo schema").decode()
    if have != want:
        raise ValueError(
            f"{path} holds {have}, this code reads {want}. Remedy: delete it and let snakemake "
            "make it anew."
        )
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path, error) from None


def _damaged(path: str | Path, error: Exception) -> ValueError:
    """Arrow calls what a damaged file holds an error of input and output."""
    reason = str(error).strip()
    return ValueError(
        f"{path} is not a whole Parquet file ({reason}). Remedy: delete it and run snakemake again."
    )


def foreign_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a Parquet file that somebody else wrote, its schema unchecked."""
    return pq.read_table(path).to_pylist()


def parquet_rows(path: str | Path) -> int:
    """Rows of any Parquet file, of whatever schema."""
    return int(pq.read_metadata(path).num_rows)
