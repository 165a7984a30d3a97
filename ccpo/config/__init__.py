"""Typed, frozen, strict configuration: experiment YAML -> {label: {seed: RunConfig}}, or an oracle
experiment.

A run is its validated config. Its folder is named {benchmark}.{team}.{credit}.{model}.s{seed}-{8
hex of the canonical JSON}, so that experiments which share a condition share its runs.
"""

from ccpo.config.choice import Choice, fingerprint, near, resolve
from ccpo.config.compared import compared, differences
from ccpo.config.cross import Cross
from ccpo.config.experiment import (
    Experiment,
    Measured,
    OracleExperiment,
    read_experiment,
    read_listed,
    read_models,
    read_profile,
    read_protocols,
    read_run,
)
from ccpo.config.model import Folder, Hub, Listed, Model, Pin, Replicated, WarmStart, Wheel
from ccpo.config.names import check_case, check_folder, check_name
from ccpo.config.probe import Probe, read_probe, share_name
from ccpo.config.protocol import Protocol, read_protocol
from ccpo.config.reading import read_json, read_yaml
from ccpo.config.run import Accepted, Critic, Lora, Objective, RunConfig, Train, tasks_slug
from ccpo.files import canonical

__all__ = [
    "Accepted",
    "Choice",
    "Critic",
    "Cross",
    "Experiment",
    "Folder",
    "Hub",
    "Listed",
    "Lora",
    "Measured",
    "Model",
    "Objective",
    "OracleExperiment",
    "Pin",
    "Probe",
    "Protocol",
    "Replicated",
    "RunConfig",
    "Train",
    "WarmStart",
    "Wheel",
    "canonical",
    "check_case",
    "check_folder",
    "check_name",
    "compared",
    "differences",
    "fingerprint",
    "near",
    "read_experiment",
    "read_json",
    "read_listed",
    "read_models",
    "read_probe",
    "read_profile",
    "read_protocol",
    "read_protocols",
    "read_run",
    "read_yaml",
    "resolve",
    "share_name",
    "tasks_slug",
]
