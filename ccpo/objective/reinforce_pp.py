"""REINFORCE++: as grpo, but the KL divergence is part of the reward, token by token; goes with
advantage `batch_whiten`.

Source: arXiv 2501.03262.
"""

from ccpo.objective.grpo import divisor as divisor
from ccpo.objective.grpo import loss as loss

VERSION = 1
KL = "reward"
