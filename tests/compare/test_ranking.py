"""The ranking of layers by the outputs' error that each causes."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import assert_same_behaviour
from convlens.compare.same import compare_models
from convlens.compare.sources import open_source
from convlens.fixtures.artefacts import plant_in_artefact


@pytest.mark.slow
def test_the_shares_add_up_and_a_coarse_layer_is_first(variety, images, convert, tmp_path):
    healthy = assert_same_behaviour(convert(variety, images, "int8"), variety, images)
    assert sum(layer.share for layer in healthy.layers) == pytest.approx(1, abs=0.2)
    path = tmp_path / "coarse.tflite"
    content = convert(variety, images, "int8").read_bytes()
    path.write_bytes(plant_in_artefact(content, "counted-padding"))
    found = compare_models(open_source(path), open_source(variety), images, names=("n", "r"))
    assert found.ranking[0].layer == "average"
    assert found.ranking[0].share > 0.5
    assert "most of the outputs' error comes from: average " in found.message


def test_a_layer_of_a_rebuilt_model_has_no_share(reference, images):
    found = assert_same_behaviour(reference.model, reference, np.asarray(images))
    assert found.ranking == ()
    assert {layer.share for layer in found.layers} == {None}
