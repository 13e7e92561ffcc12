"""The battery: every check that a model gets when nobody has written a test, in order."""

from __future__ import annotations

from convlens.checks.accuracy import Accuracy
from convlens.checks.ascent import Ascent
from convlens.checks.batch_norm import BatchNorm
from convlens.checks.check import Check
from convlens.checks.classes import Classes
from convlens.checks.convolutions import Convolutions
from convlens.checks.dead import Dead
from convlens.checks.deconvnet import Deconvnet
from convlens.checks.duplicates import Duplicates
from convlens.checks.finite import Finite
from convlens.checks.gram import Gram
from convlens.checks.repeatable import Repeatable
from convlens.checks.saturation import Saturation
from convlens.checks.style import Style

BATTERY: tuple[Check, ...] = (
    Finite(),
    Dead(),
    Duplicates(),
    Gram(),
    Ascent(),
    Deconvnet(),
    BatchNorm(),
    Repeatable(),
    Saturation(),
    Accuracy(),
    Classes(),
    Style(),
    Convolutions(),
)
