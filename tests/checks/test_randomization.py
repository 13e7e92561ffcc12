"""Explanations of trained and forgetful networks: which ones notice (Adebayo et al. 2018)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.baselines.networks import build_inception, build_residual, random_images

from convlens import Network, assert_randomization_sensitive, randomization_curve
from convlens.pictures.charts import curves as chart
from convlens.pictures.save import save_png

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "sanity.png"
METHODS = ("gradient", "guided", "deconvnet")


@pytest.fixture(scope="module")
def some(digits):
    return digits.images[::10], digits.labels[::10]


@pytest.fixture(scope="module")
def by_method(mnist_network, some):
    return {m: randomization_curve(mnist_network, *some, method=m) for m in METHODS}


@pytest.fixture(scope="module")
def healthy(by_method):
    return by_method["gradient"]


def test_the_gradient_forgets_with_the_network(healthy):
    found = assert_randomization_sensitive(healthy)
    assert found.layers == ("predictions", "dense_1", "conv2d_3", "conv2d_2", "conv2d_1")
    assert (found.compared == 20).all()
    np.testing.assert_allclose(found.spearman, healthy.spearman.mean(axis=1))
    np.testing.assert_allclose(found.ssim, healthy.ssim.mean(axis=1))


@pytest.mark.parametrize("method", ["guided", "deconvnet"])
def test_guided_backpropagation_and_the_deconvnet_do_not_notice_the_top_layers(by_method, method):
    with pytest.raises(AssertionError) as error:
        assert_randomization_sensitive(by_method[method])
    message = str(error.value)
    assert f"mnist_cnn: {method} of 'predictions' is still similar after 'predictions'" in message
    assert "curve: predictions 0." in message
    assert "conv2d_1 0." in message
    assert "after 'dense_1': rank correlation 0." in message


def test_the_order_of_the_methods_is_the_papers(by_method, pytestconfig):
    mean = {m: c.spearman.mean(axis=1) for m, c in by_method.items()}
    alike = {m: c.ssim.mean(axis=1) for m, c in by_method.items()}
    for method in ("guided", "deconvnet"):
        assert (mean[method] > mean["gradient"] + 0.05).all()
        assert (alike[method] > alike["gradient"] + 0.1).all()
    assert (mean["guided"] > mean["deconvnet"] + 0.02).all()
    assert mean["guided"][0] > 0.8
    assert mean["deconvnet"][0] > 0.6
    assert (mean["gradient"] < 0.6).all()
    if pytestconfig.getoption("--write-docs"):
        page = chart(
            {m: [1.0, *v] for m, v in mean.items()},
            range(len(mean["gradient"]) + 1),
            "mnist_cnn: explanations of a class as layers are re-initialized",
            x_label="layers re-initialized: " + ", ".join(by_method["gradient"].layers),
            y_label="rank correlation with the trained network's explanation",
        )
        save_png(page, PICTURE)


@pytest.mark.slow
@pytest.mark.parametrize("build", [build_residual, build_inception])
def test_deeper_networks_agree_on_the_gradient_and_on_guided_backpropagation(build):
    network, images = Network(build()), random_images(24)
    found = {m: randomization_curve(network, images, method=m) for m in METHODS}
    gradient = assert_randomization_sensitive(found["gradient"])
    with pytest.raises(AssertionError, match="after 'classes' was re-initialized"):
        assert_randomization_sensitive(found["guided"])
    top = {m: c.spearman.mean(axis=1)[0] for m, c in found.items()}
    assert top["gradient"] == pytest.approx(gradient.spearman[0])
    assert top["gradient"] + 0.1 < top["deconvnet"] < top["guided"] - 0.1


def test_a_picture_of_the_image_alone_is_found_out(mnist_network, some):
    def edges(network, images, units):
        return np.abs(np.diff(images, axis=1, append=0)) + np.abs(np.diff(images, axis=2, append=0))

    curve = randomization_curve(mnist_network, *some, method=edges)
    assert curve.spearman.min() == pytest.approx(1)
    with pytest.raises(AssertionError, match=r"edges of 'predictions'.*in 5 of 5 steps"):
        assert_randomization_sensitive(curve)


def test_the_first_layer_that_fails_is_named_and_the_worst_comes_first(healthy):
    spearman = healthy.spearman.copy()
    spearman[2], spearman[3] = 0.7, 0.9
    spearman[3, 4] = 0.95
    with pytest.raises(AssertionError) as error:
        assert_randomization_sensitive(replace(healthy, spearman=spearman))
    lines = str(error.value).splitlines()
    assert "after 'conv2d_3' and all above it was re-initialized, in 2 of 5 steps" in lines[0]
    assert "at most 0.6 " in lines[0]
    assert lines[2].strip().startswith("after 'conv2d_2': rank correlation 0.9")
    assert "image 4, unit" in lines[2]
    assert len(lines) == 4


def test_structural_similarity_is_judged_too(healthy):
    ssim = healthy.ssim.copy()
    ssim[1] = 0.8
    with pytest.raises(AssertionError, match="after 'dense_1' and all above it"):
        assert_randomization_sensitive(replace(healthy, ssim=ssim))


def test_nan_never_passes(healthy):
    after = healthy.explanations.copy()
    after[1, 3, 5, 5] = np.nan
    with pytest.raises(AssertionError, match="not finite"):
        assert_randomization_sensitive(replace(healthy, explanations=after))
    first = healthy.explanation.copy()
    first[0] = np.inf
    with pytest.raises(AssertionError, match="not finite"):
        assert_randomization_sensitive(replace(healthy, explanation=first))
    unknown = np.full_like(healthy.spearman, np.nan)
    with pytest.raises(AssertionError, match="'predictions': 0 of 20 could be compared"):
        assert_randomization_sensitive(replace(healthy, spearman=unknown))


def test_an_explanation_that_vanishes_is_no_change(mnist_network, some):
    first = []

    def vanishing(network, images, units):
        first.append(1)
        return images if len(first) == 1 else 0 * images

    with pytest.raises(AssertionError, match="more than half of 20 images cannot be compared"):
        assert_randomization_sensitive(randomization_curve(mnist_network, *some, method=vanishing))


def test_an_empty_selection_never_passes(healthy):
    none = replace(
        healthy,
        layers=(),
        explanations=healthy.explanations[:0],
        spearman=healthy.spearman[:0],
        ssim=healthy.ssim[:0],
    )
    with pytest.raises(AssertionError, match="no layer was re-initialized"):
        assert_randomization_sensitive(none)


def test_a_limit_that_everything_meets_is_refused(healthy):
    for wrong in ({"limit": 1.0}, {"ssim_limit": np.nan}, {"limit": -2}):
        with pytest.raises(ValueError, match="limit must be at least -1"):
            assert_randomization_sensitive(healthy, **wrong)
