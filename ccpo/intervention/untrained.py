"""The team before training: the policies that it began with, otherwise as it is."""

from ccpo.intervention.factual import fits as fits
from ccpo.intervention.factual import hears as hears
from ccpo.intervention.factual import present as present
from ccpo.intervention.factual import speaks as speaks

VERSION = 1
LABEL = "before training"
POLICIES = "untrained"
