"""Items of a model share one survey, and never that of other weights."""

from __future__ import annotations

import pytest

from convlens import lens as lens_module

CONFTEST = """
import numpy as np
import pytest
from convlens import ModelCheck

def silence(model):
    layer = model.get_layer("conv2d_2")
    kernel, bias = layer.get_weights()
    kernel[..., 5], bias[5] = 0, -1
    layer.set_weights([kernel, bias])

class Breaks(ModelCheck):
    name = "breaks"
    summary = "the weights are changed"

    def run(self, lens, layer, effort):
        silence(lens.model)
        raise AssertionError("done")

    def verdict(self, seen):
        return {}

def pytest_convlens_checks(config):
    return [Breaks()]

ORDER = ["finite", "breaks", "test_breaks", "dead", "duplicates", "saturation", "accuracy"]

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    names = [item.name.split("[")[0] for item in items]
    items[:] = [item for wanted in ORDER for item, name in zip(items, names) if name == wanted]
"""
TEST = "import conftest\n\ndef test_breaks(mnist_cnn):\n    conftest.silence(mnist_cnn)\n"


@pytest.fixture
def surveys(monkeypatch, mnist_network):
    """Count the surveys, and put the weights back at the end."""
    made = []
    survey = lens_module.survey_network

    def counted(*given, **options):
        made.append(given)
        return survey(*given, **options)

    monkeypatch.setattr(lens_module, "survey_network", counted)
    weights = mnist_network.model.get_weights()
    yield made
    mnist_network.model.set_weights(weights)


def run(pytester, wanted):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=TEST)
    options = ("-p", "no:cacheprovider", "--import-mode=prepend", "-rA", "-k", wanted)
    return pytester.runpytest_inprocess(*options, "--convlens", "mnist_cnn", "test_it.py")


def test_one_survey_serves_all_items(pytester, surveys):
    result = run(pytester, "finite or dead or duplicates or saturation or accuracy")
    result.assert_outcomes(passed=5 + 3 + 3 + 1 + 1)
    assert len(surveys) == 1


@pytest.mark.parametrize("what", ["test_breaks", "breaks and not test"])
def test_weights_that_other_code_changes_are_surveyed_anew(pytester, surveys, what):
    result = run(pytester, f"finite or dead or ({what})")
    result.stdout.fnmatch_lines(["PASSED mnist_cnn::finite*", "FAILED mnist_cnn::dead?conv2d_2? *"])
    assert len(surveys) == 2


def test_an_item_says_the_same_alone(pytester, surveys):
    result = run(pytester, "duplicates and conv2d_3")
    result.assert_outcomes(passed=1)
    assert len(surveys) == 1
    assert len(surveys[0][2].filters) == 3  # of all layers, as in a run of all items
