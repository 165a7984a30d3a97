"""Typed, frozen, strict configuration: experiment YAML -> {label: {seed: RunConfig}}, or an oracle
experiment.

A run is its validated config. Its folder is named {benchmark}.{team}.{credit}.{model}.s{seed}-{8
hex of the canonical JSON}, so that experiments which share a condition share its runs.
"""

from ccpo.config.choice import Choice, fingerprint, near
from ccpo.config.experiment import (
    Experiment,
    Measured,
    OracleExperiment,
    read_experiment,
    read_listed,
    read_models,
    read_profile,
    read_run,
)
from ccpo.config.model import Folder, Hub, Listed, Model, Pin, Replicated, WarmStart, Wheel
from ccpo.config.run import Critic, Lora, RunConfig, tasks_slug
from ccpo.files import canonical

__all__ = [
    "Choice",
    "Critic",
    "Experiment",
    "Folder",
    "Hub",
    "Listed",
    "Lora",
    "Measured",
    "Model",
    "OracleExperiment",
    "Pin",
    "Replicated",
    "RunConfig",
    "WarmStart",
    "Wheel",
    "canonical",
    "fingerprint",
    "near",
    "read_experiment",
    "read_listed",
    "read_models",
    "read_profile",
    "read_run",
    "tasks_slug",
]
