"""Figures: each is drawn from a tidy frame made of stats.json, and that frame is what its CSV holds. Nothing else is read.

Titles say what is shown, never what it means.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from ccpo import schema
from ccpo.publish import audits

# Okabe and Ito's palette, told apart by colour-blind readers, and a brown
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C564B"]
STYLE: Any = {
    "figure.figsize": (6.4, 3.9),
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "ccpo",
    "svg.fonttype": "path",
}


def draw(name: str, stats: Path, svg: Path, csv: Path) -> None:
    """Draws figure `name` and writes the numbers it was drawn from.

    Raises:
        ValueError: an unknown figure, or stats that hold nothing to draw it from.
    """
    known = FIGURES | audits.FIGURES
    if name not in known:
        raise ValueError(f"figure '{name}' is not known. Known: {', '.join(known)}.")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    numbers = schema.read_json(stats)
    collect, paint = known[name]
    frame = collect(numbers)
    if frame.empty:
        raise ValueError(f"figure {name}: {stats} holds nothing to draw")
    schema.write_text(csv, frame.to_csv(index=False))
    svg.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        parts = panels(numbers, frame)
        heights = [_height(part) for part in parts.values()]
        size = STYLE["figure.figsize"] if len(parts) == 1 else (7.4, sum(heights))
        figure, grid = plt.subplots(len(parts), figsize=size, sharex=len(parts) > 1, squeeze=False, height_ratios=heights)
        for (title, part), axes in zip(parts.items(), grid[:, 0], strict=True):
            names = list(dict.fromkeys(part.condition)) if "condition" in part else []
            paint(part, axes, {c: COLOURS[i % len(COLOURS)] for i, c in enumerate(names)})
            axes.set_title(title.strip(), fontsize=10)
        temporary = svg.with_name("." + svg.name)
        figure.savefig(temporary, format="svg", metadata={"Date": None})
        plt.close(figure)
    temporary.replace(svg)


def panels(numbers: dict[str, Any], frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What each panel shows, by its title: all, or one panel for each team where there are more conditions than colours; and one for
    each value of a column `panel`."""
    conditions = numbers.get("conditions", {})
    keys = ["panel"] if "panel" in frame else []
    if "condition" in frame and len(conditions) > len(COLOURS):
        frame = frame.assign(_team=frame.condition.map({c: v["team"] for c, v in conditions.items()}))
        keys = ["_team", *keys]
    if not keys:
        return {"": frame}
    parts = frame.groupby(keys, sort=False)
    return {
        ", ".join(k for k, key in zip(names, keys, strict=True) if key == "_team") + " " * i: rows for i, (names, rows) in enumerate(parts)
    }


def _height(part: pd.DataFrame) -> float:
    """Inches for a panel: for a line over updates or tokens always the same, else enough for a line of text for each condition or agent."""
    if "condition" not in part or {"step", "tokens", "generated_tokens", "temperature"} & set(part):
        return 2.8
    return max(1.4, 1.0 + 0.27 * len(part[[c for c in ("condition", "agent") if c in part]].drop_duplicates()))


def _labels(axes: Any, title: str, x: str, y: str) -> None:
    axes.figure.suptitle(title, x=0.01, ha="left", fontsize=11.5)  # at the figure's edge, so that long labels cannot push it out
    if axes is axes.figure.axes[-1]:
        axes.set_xlabel(x)
    axes.set_ylabel(y)


def _legend(axes: Any) -> None:
    """Below the axes, where it can cover no data; beside them where there are several, once for what is the same in all."""
    handles, labels = axes.get_legend_handles_labels()
    if len(axes.figure.axes) > 1:
        shown = [[text.get_text() for text in other.get_legend().get_texts()] for other in axes.figure.axes if other.get_legend()]
        if labels not in shown:
            axes.legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
        return
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=min(3 if max(map(len, labels)) < 16 else 2, len(labels)))


def _half(frame: pd.DataFrame) -> Any:
    """Half widths of the intervals; 0 where one seed gives none."""
    return (frame.ci_high - frame["mean"]).fillna(0.0)


def primary(condition: dict[str, Any]) -> dict[str, Any]:
    """Accuracies by intervention, of the first benchmark under the primary decoding."""
    return condition["accuracy"][condition["benchmark"]][condition["primary"]]


def _curves(numbers: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([{"condition": c, **row} for c, v in numbers["conditions"].items() for row in v["curve"]])


def _paint_curves(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    for condition, rows in frame.groupby("condition", sort=False):
        axes.plot(rows.tokens / 1000, rows["mean"], color=colours[condition], label=condition)
        if rows.ci_low.notna().all():
            axes.fill_between(
                rows.tokens / 1000,
                rows.ci_low.astype(float),
                rows.ci_high.astype(float),
                color=colours[condition],
                alpha=0.15,
                lw=0,
            )
    _labels(
        axes,
        "Team reward while training (mean and 95 % interval over seeds)",
        "generated tokens, thousands",
        "reward, sampled",
    )
    _legend(axes)


def _final(numbers: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for c, v in numbers["conditions"].items():
        for kind in ("untrained", "factual"):
            found = primary(v).get(kind)
            if found:
                head = {"condition": c, "team": "trained" if kind == "factual" else "untrained"}
                values = {k: found[k] for k in ("mean", "ci_low", "ci_high")}
                rows += [{**head, **values, "seed": int(s), "value": x} for s, x in found["by_seed"].items()]
    return pd.DataFrame(rows)


def _paint_final(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    names = list(dict.fromkeys(frame.condition))
    for (condition, team), rows in frame.groupby(["condition", "team"], sort=False):
        trained = team == "trained"
        y = names.index(condition) + (0.14 if trained else -0.14)
        colour = colours[condition] if trained else "#8a8a8a"
        axes.scatter(rows.value * 100, [y] * len(rows), s=16, color=colour, alpha=0.45, lw=0)
        one = rows.iloc[:1]
        axes.errorbar(
            one["mean"] * 100,
            [y],
            xerr=_half(one) * 100,
            fmt="o" if trained else "s",
            ms=6,
            color=colour,
            capsize=3,
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    _labels(axes, "Accuracy after training (grey squares: before). Dots: seeds", "accuracy on test tasks, %", "")


ACCURACY, UNSURE = "accuracy, %", "nats per token"


def _temperatures(numbers: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for c, v in numbers["conditions"].items():
        for panel, found in ((ACCURACY, v["accuracy"][v["benchmark"]]), (UNSURE, v["nll"])):
            for decoding, drawn in v["decodings"].items():
                if panel == UNSURE and drawn["temperature"] == 0:
                    continue  # a greedy answer is drawn from no distribution
                for kind in ("factual", "untrained"):
                    if kind in found[decoding]:
                        head = {"condition": c, "panel": panel, "team": "trained" if kind == "factual" else "untrained"}
                        values = {k: found[decoding][kind][k] for k in ("mean", "ci_low", "ci_high", "n")}
                        rows.append({**head, "temperature": drawn["temperature"], **values})
    return pd.DataFrame(rows)


def _paint_temperatures(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    """One panel: accuracy or nats per token. A team before training is drawn in its colour too, dotted."""
    accuracy = frame.panel.iloc[0] == ACCURACY
    scale = 100.0 if accuracy else 1.0
    for (condition, team), rows in frame.groupby(["condition", "team"], sort=False):
        line, trained = rows.sort_values("temperature"), team == "trained"
        style = {"marker": "o", "ls": "-", "lw": 1.8} if trained else {"marker": "s", "ls": ":", "lw": 1.1}
        label = condition if trained else "_"
        axes.plot(line.temperature, line["mean"] * scale, color=colours[condition], ms=4, label=label, **style)
        if trained and line.ci_low.notna().all():
            low, high = line.ci_low.astype(float) * scale, line.ci_high.astype(float) * scale
            axes.fill_between(line.temperature, low, high, color=colours[condition], alpha=0.12, lw=0)
    axes.set_ylim(0, 100 if accuracy else None)
    title = "By temperature: accuracy, and how unsure the team is (dotted: untrained)"
    _labels(axes, title, "temperature (0: greedy)", ACCURACY if accuracy else UNSURE)
    _legend(axes)


def _solo(numbers: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for c, v in numbers["conditions"].items():
        kinds = primary(v)
        if any(k in kinds for k in ("solo", "blank", "shuffle")):
            for kind in ("factual", "solo", "blank", "shuffle"):
                if kind in kinds:
                    rows.append(
                        {
                            "condition": c,
                            "intervention": kind,
                            **{k: kinds[kind][k] for k in ("mean", "ci_low", "ci_high")},
                        }
                    )
    return pd.DataFrame(rows)


SHOWN = {
    "factual": ("team as it is", "o"),
    "solo": ("last agent alone", "D"),
    "blank": ("message left empty", "v"),
    "shuffle": ("message of another task", "s"),
}


def _paint_solo(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    names = list(dict.fromkeys(frame.condition))
    for i, (kind, (label, marker)) in enumerate(SHOWN.items()):
        rows = frame[frame.intervention == kind]
        if rows.empty:
            continue
        y = [names.index(c) + 0.14 * (i - 1.5) for c in rows.condition]
        axes.errorbar(
            rows["mean"] * 100,
            y,
            xerr=_half(rows) * 100,
            fmt=marker,
            ms=6,
            color=COLOURS[i],
            capsize=3,
            label=label,
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    _labels(axes, "The trained team, and the team with a message taken away", "accuracy on test tasks, %", "")
    _legend(axes)


def _agents(numbers: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"condition": c, **r}
            for c, v in numbers["conditions"].items()
            for r in v["agents"]
            if r["part"] == "last" and r["quantity"] != "leakage"
        ]
    )


def _paint_agents(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    rows = list(dict.fromkeys(zip(frame.condition, frame.agent, strict=True)))
    for i, (quantity, marker) in enumerate((("reward", "o"), ("credit", "D"))):
        some = frame[frame.quantity == quantity]
        y = [rows.index((c, a)) + 0.12 * (2 * i - 1) for c, a in zip(some.condition, some.agent, strict=True)]
        axes.errorbar(some["mean"], y, xerr=_half(some), fmt=marker, ms=6, color=COLOURS[i], capsize=3, label=quantity)
    axes.set_yticks(range(len(rows)), [f"{c}, agent {a}" for c, a in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    _labels(axes, "Reward and credit of an agent's messages, last fifth of training", "mean over messages", "")
    _legend(axes)


def _tokens(numbers: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for c, v in numbers["conditions"].items():
        found = primary(v)["factual"]
        rows.append(
            {
                "condition": c,
                "generated_tokens": v["ledger"]["generated_tokens"],
                **{k: found[k] for k in ("mean", "ci_low", "ci_high")},
            }
        )
    return pd.DataFrame(rows)


def _paint_tokens(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    for i, row in frame.iterrows():
        one = frame.loc[[i]]
        axes.errorbar(
            one.generated_tokens / 1000,
            one["mean"] * 100,
            yerr=_half(one) * 100,
            fmt="o",
            ms=7,
            capsize=3,
            color=colours[row.condition],
            label=row.condition,
        )
    axes.set_xlim(0, frame.generated_tokens.max() / 1000 * 1.15 + 1e-9)
    _labels(
        axes,
        "Accuracy against what training generated",
        "generated tokens, thousands",
        "accuracy on test tasks, %",
    )
    _legend(axes)


def _information(numbers: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([{"condition": c, **r} for c, v in numbers["conditions"].items() for r in v["role_information"]])


def _paint_information(frame: pd.DataFrame, axes: Any, colours: dict[str, str]) -> None:
    highest = frame.groupby(["condition", "agent"], sort=False)["mean"].max()
    silent = [f"{c} {a}" for (c, a), v in highest.items() if v < 1e-9]
    for (condition, agent), rows in frame.groupby(["condition", "agent"], sort=False):
        if highest[condition, agent] >= 1e-9:
            axes.plot(
                rows.step,
                rows["mean"],
                color=colours[condition],
                ls=("-", "--", ":")[agent % 3],
                label=f"{condition}, agent {agent}",
            )
    if silent:
        axes.plot(
            [frame.step.min(), frame.step.max()],
            [0, 0],
            color="#8a8a8a",
            lw=3,
            label=f"0: {len(silent)} agents, {len({s.rsplit(' ', 1)[0] for s in silent})} conditions",
        )
    axes.set_ylim(-0.03, max(1.0, highest.max()) + 0.03)
    _labels(axes, "Share of the advantage that the shared reward does not explain", "update", "role information")
    _legend(axes)


FIGURES: dict[str, tuple[Callable[[dict[str, Any]], pd.DataFrame], Callable[[pd.DataFrame, Any, dict[str, str]], None]]] = {
    "learning_curves": (_curves, _paint_curves),
    "accuracy": (_final, _paint_final),
    "temperatures": (_temperatures, _paint_temperatures),
    "solo": (_solo, _paint_solo),
    "agents": (_agents, _paint_agents),
    "tokens": (_tokens, _paint_tokens),
    "role_information": (_information, _paint_information),
}
