"""The verdicts on style transfers, each watched to fail on what it must catch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convlens import assert_style_closer, assert_style_transfer_converges, transfer_style
from convlens.fixtures.style_pictures import content_picture, style_picture
from convlens.style import objective as style_objective

CONTENT, STYLE = content_picture(40), style_picture("waves", 40)
LAYERS = {"content_layers": "high", "style_layers": ["low", "high"]}


@pytest.fixture(scope="module")
def network(new_style_network):
    return new_style_network()


@pytest.fixture(scope="module")
def healthy(network):
    return transfer_style(CONTENT, STYLE, network, steps=40, style_weight=200.0, **LAYERS)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("convention", "optimizer"),
    [
        ("gatys", "lbfgs"),
        pytest.param("gatys", "adam", marks=pytest.mark.slow),
        *(
            pytest.param(convention, optimizer, marks=pytest.mark.slow)
            for convention in ("tensorflow-tutorial", "johnson")
            for optimizer in ("lbfgs", "adam")
        ),
    ],
)
def test_healthy_transfers_pass(network, convention, optimizer):
    scale = {"gatys": 200.0, "tensorflow-tutorial": 0.1, "johnson": 3.0}[convention]
    result = transfer_style(
        CONTENT,
        STYLE,
        network,
        steps=60,
        convention=convention,
        style_weight=scale,
        optimizer=optimizer,
        **LAYERS,
    )
    found = assert_style_transfer_converges(network, result, content=CONTENT, style=STYLE)
    assert 0 < found.fall <= 0.5
    assert 0 < found.content < 1
    assert found.correlation["high"] > 0.5
    distances = assert_style_closer(network, result, content=CONTENT, style=STYLE)
    assert list(distances) == ["low", "high"]


@pytest.mark.slow
def test_several_styles_with_masks_pass(network):
    left = np.zeros((40, 40))
    left[:, :20] = 1
    result = transfer_style(
        CONTENT,
        [STYLE, style_picture("tiles", 48)],
        network,
        masks=[left, 1 - left],
        style_shares=[2, 1],
        steps=40,
        style_weight=200.0,
        **LAYERS,
    )
    assert_style_transfer_converges(network, result)
    assert_style_closer(network, result)


def test_content_and_style_swapped(network):
    result = transfer_style(STYLE, CONTENT, network, steps=40, style_weight=200.0, **LAYERS)
    # Nothing is wrong with it but what was asked for.
    assert_style_transfer_converges(network, result, factor=0.7)
    with pytest.raises(AssertionError, match=r"'content:high' is .* measured on other pictures"):
        assert_style_transfer_converges(network, result, content=CONTENT, style=STYLE)


@pytest.mark.parametrize("which", ["content", "style"])
def test_bgr_taken_for_rgb(network, which):
    given = {"content": CONTENT, "style": STYLE}
    given[which] = given[which][..., ::-1]
    result = transfer_style(*given.values(), network, steps=40, style_weight=200.0, **LAYERS)
    with pytest.raises(AssertionError, match="it was measured on other pictures"):
        assert_style_transfer_converges(network, result, content=CONTENT, style=STYLE)


@pytest.mark.slow
def test_a_gram_matrix_of_the_wrong_divisor(monkeypatch, new_style_network):
    right = style_objective.style_gram

    def wrong(features, guide=None):
        return right(features, guide) * features.shape[1] * features.shape[2]

    monkeypatch.setattr(style_objective, "style_gram", wrong)
    network = new_style_network()  # which has compiled nothing yet
    result = transfer_style(CONTENT, STYLE, network, steps=20, **LAYERS)
    with pytest.raises(AssertionError, match=r"term 'style:low' is .* but the trace says"):
        assert_style_transfer_converges(network, result)


@pytest.mark.slow
def test_clipping_left_out(monkeypatch, new_style_network):
    from convlens.style import descent as style_descent

    monkeypatch.setattr(style_descent.ops, "clip", lambda x, low, high: x)
    network = new_style_network()
    result = transfer_style(
        CONTENT, STYLE, network, steps=60, style_weight=200.0, optimizer="adam", **LAYERS
    )
    with pytest.raises(AssertionError, match=r"optimized image has values from .* outside 0 to 1"):
        assert_style_transfer_converges(network, result)


@pytest.mark.slow
def test_targets_recomputed_from_the_generated_image(monkeypatch, new_style_network):
    terms = style_objective.StyleObjective.terms

    def moving(self, image, targets):
        maps = dict(zip(self.layers, self._features(image), strict=True))
        grams = [[style_objective.style_gram(maps[n]) for n in self.style_layers]]
        return terms(self, image, replace(targets, grams=grams))

    monkeypatch.setattr(style_objective.StyleObjective, "terms", moving)
    network = new_style_network()
    result = transfer_style(CONTENT, STYLE, network, steps=5, start="noise", **LAYERS)
    with pytest.raises(AssertionError) as caught:
        assert_style_transfer_converges(network, result)
    assert "term 'style:low' is" in str(caught.value)
    with pytest.raises(AssertionError, match="not nearer the style"):
        assert_style_closer(network, result)


def test_an_ascent_in_place_of_a_descent(monkeypatch, new_style_network):
    from convlens.style import descent as style_descent

    right = style_descent.adam
    monkeypatch.setattr(style_descent, "adam", lambda g, *rest: right(-g, *rest))
    network = new_style_network()
    result = transfer_style(
        CONTENT, STYLE, network, steps=20, style_weight=200.0, optimizer="adam", **LAYERS
    )
    with pytest.raises(AssertionError, match=r"the loss fell from .* at most 0.5 is allowed"):
        assert_style_transfer_converges(network, result)


def test_a_style_that_drowns_the_content(network):
    result = transfer_style(
        CONTENT, STYLE, network, steps=60, start="noise", content_weight=0.0, **LAYERS
    )
    as_asked = replace(result, weights=replace(result.weights, content=1.0))
    with pytest.raises(AssertionError, match="the content was lost: the features"):
        assert_style_transfer_converges(network, as_asked, factor=1, correlation=0.5)


def test_a_content_term_over_its_bound(network, healthy):
    with pytest.raises(AssertionError, match="the content was lost: its loss is"):
        assert_style_transfer_converges(network, healthy, content_bound=1e-6)


def test_a_picture_that_is_not_finite(network, healthy):
    broken = healthy.image.copy()
    broken[3, 4, 1] = np.nan
    with pytest.raises(AssertionError, match="the style transfer"):
        assert_style_transfer_converges(network, replace(healthy, optimized=broken))
    with pytest.raises(AssertionError, match="the style transfer"):
        assert_style_closer(network, replace(healthy, optimized=broken))


def test_the_message_says_how_far_each_layer_is(network, healthy):
    with pytest.raises(AssertionError) as caught:
        assert_style_closer(network, healthy, factor=1e-9)
    text = str(caught.value)
    assert "small: the result is not nearer the style than the content is (factor 1e-09)" in text
    assert "layer 'low': the distance was" in text
    assert "layer 'high': the distance was" in text


def test_pictures_that_do_not_fit_are_refused(network, healthy):
    with pytest.raises(ValueError, match="2 styles were given for a transfer of 1"):
        assert_style_closer(network, healthy, style=[STYLE, STYLE])
    with pytest.raises(ValueError, match="not of the aspect of the result, 40×40"):
        assert_style_closer(network, healthy, content=CONTENT[:20])
