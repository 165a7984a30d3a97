"""ccpo: a neutral referee of credit assignment in teams of language models."""

__version__ = "0.2.0"

# A stage's number enters what depends on it (the run's identity for `train`, a rule's `params` for
# the rest), so that a deliberate change of results reruns exactly the stages it touches, and an
# edit of prose reruns nothing.
STAGE_VERSIONS = {
    "tasks": 3,
    "overlap": 1,
    "model": 3,
    "train": 5,
    "rollout": 6,
    "score": 5,
    "probe": 1,
    "probe_credit": 1,
    "diagnose": 2,
    "analyse": 5,
    "cross": 1,
}
