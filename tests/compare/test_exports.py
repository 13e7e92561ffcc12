"""Faults of converters, planted before the export: all are caught, and the layer is named."""

from __future__ import annotations

import pytest

from convlens import assert_same_behaviour
from convlens.fixtures.exports import EXPORT_DEFECTS, export_places, plant_before_export

# Those that a run of the core tries; the others are marked slow.
# The one layer with values above 6.
PLACES = {"relu6-for-relu": "stem_relu"}
IN_WORDS = {"softmax-twice": "it has two softmaxes at its end, and the reference has one"}
QUICK = ("batch-norm-variance", "relu6-for-relu", "shifted-padding", "flatten-order")


def named_in(error):
    first = str(error.value).splitlines()[0]
    return first.partition(" is '")[2].partition("'")[0].split(" + "), first


@pytest.mark.parametrize(
    "defect",
    [pytest.param(d, marks=() if d in QUICK else pytest.mark.slow) for d in EXPORT_DEFECTS],
)
def test_a_fault_before_the_export_is_named(variety, images, defect):
    places = export_places(variety, defect)
    assert places
    place = PLACES.get(defect, places[len(places) // 2])
    with pytest.raises(AssertionError) as error:
        assert_same_behaviour(plant_before_export(variety, defect, place), variety, images)
    named, first = named_in(error)
    assert place in named or (defect in IN_WORDS and IN_WORDS[defect] in first), f"{place}: {first}"


def test_a_healthy_copy_agrees(variety, images):
    from convlens.fixtures._rebuild import copy_of

    assert not assert_same_behaviour(copy_of(variety), variety, images).unmatched


@pytest.mark.parametrize(
    ("defect", "layer", "message"),
    [
        ("none", None, "unknown defect 'none'; possible defects: batch-norm-variance, "),
        (
            "flatten-order",
            "stem",
            "cannot be planted at 'stem' of variety; possible layers: dense_1",
        ),
    ],
)
def test_what_cannot_be_planted(variety, defect, layer, message):
    with pytest.raises(ValueError, match=message):
        plant_before_export(variety, defect, layer)
