"""Checks that need to know what the signs are, and how they may be seen."""

import numpy as np
from signs import CLASSES

from convlens import assert_invariant, assert_occlusion_sensitive


def test_there_is_a_class_for_each_sign(lens):
    assert lens.model.output_shape == (None, len(CLASSES))


def test_a_sign_is_known_when_it_hangs_askew(lens):
    turned = lens.invariance("rotation", amounts=(-10, -5, 0, 5, 10))
    assert_invariant(turned, (-10, 10), fraction=0.8)


def test_a_class_hangs_on_some_part_of_its_sign(lens):
    few = lens.one_of_each()
    hidden = lens.occlude(lens.images[few], classes=lens.labels[few], patch=9, stride=4)
    assert_occlusion_sensitive(hidden)


def test_what_it_says_of_each_sign_is_what_it_said(lens, baseline):
    few = lens.one_of_each()
    probabilities = lens.activations("classes", lens.images[few])["classes"]
    assert (np.argmax(probabilities, axis=1) == lens.labels[few]).all()
    baseline.check(probabilities, name="probabilities")
