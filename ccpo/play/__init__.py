"""From tasks to scored trees: engines, rollouts, the verifier."""
