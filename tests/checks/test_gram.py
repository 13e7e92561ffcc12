"""Gram checks: healthy matrices pass, each planted defect fails and is named."""

from __future__ import annotations

import numpy as np
import pytest

from convlens import assert_gram_invariant, assert_gram_symmetric, gram_matrix

F = np.abs(np.random.default_rng(0).standard_normal((2, 6, 5, 4))).astype(np.float32)
G = gram_matrix(F)


@pytest.mark.parametrize("divisor", ["none", "positions", "positions*channels"])
def test_healthy_matrices_pass(divisor):
    residuals = assert_gram_symmetric(gram_matrix(F, divisor), F, divisor=divisor)
    assert 0 <= residuals.worst < 1e-5
    assert residuals.trace is not None
    assert assert_gram_symmetric(G[0]).trace is None


def test_real_features_pass(mnist_network, digits):
    from convlens import activations

    for layer, maps in activations(mnist_network, digits.images[:8]).items():
        assert_gram_symmetric(gram_matrix(maps), maps, name=layer)
        assert_gram_invariant(maps, name=layer)


def test_one_changed_entry_is_named():
    bad = G.copy()
    bad[1, 0, 2] *= 1.01
    with pytest.raises(AssertionError, match=r"matrix 1: G\[0,2\] = .* but G\[2,0\] = "):
        assert_gram_symmetric(bad)


def test_a_negative_eigenvalue_is_caught():
    values, vectors = np.linalg.eigh(G[0].astype(np.float64))
    values[0] = -0.01 * values[-1]
    bad = (vectors * values) @ vectors.T
    with pytest.raises(AssertionError, match=r"not positive semi-definite: its smallest .* -\d"):
        assert_gram_symmetric(bad)


def test_an_entry_over_cauchy_schwarz_is_caught():
    bad = G.copy()
    bad[0, 0, 1] = bad[0, 1, 0] = 1.2 * np.sqrt(bad[0, 0, 0] * bad[0, 1, 1])
    with pytest.raises(AssertionError, match=r"matrix 0: \|G\[0,1\]\| = .* exceeds"):
        assert_gram_symmetric(bad)


def test_a_transposed_reshape_is_caught_though_its_trace_is_right():
    mixed = F.reshape(2, 4, 30).transpose(0, 2, 1)  # channels mixed with positions
    bad = np.einsum("npi,npj->nij", mixed, mixed)
    assert_gram_symmetric(bad)  # it is a Gram matrix, but not of these features
    with pytest.raises(AssertionError, match="channels may be mixed with positions"):
        assert_gram_symmetric(bad, F)


def test_a_wrong_divisor_is_caught_with_its_factor():
    with pytest.raises(AssertionError, match=r"divisor 'positions' \(30\).*: 30 times too much"):
        assert_gram_symmetric(G, F, divisor="positions")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_never_passes(value):
    bad = G.copy()
    bad[0, 1, 1] = value
    with pytest.raises(AssertionError, match=r"not finite: entry \(0, 1, 1\)"):
        assert_gram_symmetric(bad)


def test_the_message_has_ten_offenders_and_a_count():
    bad = np.triu(np.ones((8, 8))) + np.eye(8) * 8
    with pytest.raises(AssertionError) as failure:
        assert_gram_symmetric(bad, name="my matrix")
    lines = str(failure.value).splitlines()
    assert lines[0].startswith("my matrix of 8 units is no Gram matrix (tolerance ")
    assert len(lines) == 12
    assert lines[-1].strip() == "… and 18 more"


def test_half_precision_is_allowed_its_rounding():
    assert_gram_symmetric(G.astype(np.float16))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 2, 3), (0, 2, 2)])
def test_what_is_not_square_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(c, c\) or \(n, c, c\) is needed"):
        assert_gram_symmetric(np.ones(shape))


def test_features_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        assert_gram_symmetric(G, F[..., :3])


def neighbors(features):
    """A Gram function that looks at the position to the right."""
    flat = features.reshape(len(features), -1, features.shape[-1])
    return np.einsum("npi,npj->nij", flat, np.roll(flat, 1, axis=1))


def positions(features):
    """A Gram function that weighs positions."""
    weights = np.linspace(0.5, 1.5, features.shape[1])[None, :, None, None]
    return gram_matrix((features * weights).astype(np.float32))


@pytest.mark.parametrize("gram", [neighbors, positions])
def test_a_gram_that_knows_where_things_are_is_caught(gram):
    with pytest.raises(AssertionError, match="permuting the 30 positions changes it by"):
        assert_gram_invariant(F, gram)


def test_a_gram_that_is_not_quadratic_is_caught():
    with pytest.raises(AssertionError, match=r"G\(2.5·F\) differs from 6.25·G\(F\)"):
        assert_gram_invariant(F, lambda f: np.sqrt(gram_matrix(f)))


def test_invariance_of_the_engines_gram():
    result = assert_gram_invariant(F)
    assert max(result.permutation, result.scale) < 1e-5


def test_features_that_say_nothing_do_not_pass():
    with pytest.raises(AssertionError, match=r"max\|G\| is 0"):
        assert_gram_invariant(np.zeros_like(F))
    with pytest.raises(ValueError, match="two positions or more"):
        assert_gram_invariant(F[:, :1, :1])


def test_rounding_over_many_positions_is_no_defect():
    """At 224×224, the sum over 50,176 positive values is off by more than a hundred roundings."""
    draw = np.random.default_rng(0)
    features = np.exp(2 * draw.standard_normal((1, 224, 224, 4))).astype(np.float32)
    total = np.zeros((4, 4), np.float32)
    for row in features.reshape(-1, 4):
        total += row[:, None] * row  # the plainest order of summation, and the worst
    residuals = assert_gram_symmetric(total, features[0])
    assert residuals.worst > 1.2e-5
    with pytest.raises(AssertionError):
        assert_gram_symmetric(total * np.float32(1.001), features[0])


def many_channels(positions: int = 9, channels: int = 300) -> np.ndarray:
    draw = np.random.default_rng(4)
    return draw.standard_normal((2, positions, 1, channels)).astype(np.float32)


@pytest.mark.parametrize("given", [True, False], ids=["with features", "alone"])
def test_many_channels_need_no_eigenvalues_where_none_is_negative(given):
    maps = many_channels()
    found = assert_gram_symmetric(gram_matrix(maps), maps if given else None)
    assert found.negative is None
    assert 0 < found.worst < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("given", [True, False], ids=["with features", "alone"])
def test_a_negative_eigenvalue_among_many_is_caught(given):
    maps = many_channels()
    gram = gram_matrix(maps).astype(np.float64)
    vectors = np.linalg.eigh(gram[1])[1]
    size = np.abs(gram[1]).max()
    gram[1] -= np.outer(vectors[:, 0], vectors[:, 0]) * 300 * 1e-3 * size
    with pytest.raises(AssertionError, match="matrix 1 is not positive semi-definite: its small"):
        assert_gram_symmetric(gram, maps if given else None, tol=5e-4)


def test_an_entry_in_the_last_rows_of_many_is_caught():
    maps = many_channels(channels=700)
    gram = gram_matrix(maps)
    gram[1, 698, 40] *= 1.5
    with pytest.raises(AssertionError, match=r"matrix 1: G\[40,698\] = .* but G\[698,40\] = "):
        assert_gram_symmetric(gram)
    gram[1, 40, 698] = gram[1, 698, 40]
    with pytest.raises(AssertionError, match=r"G\[(40,698|698,40)\] = .*, but FᵀF over the"):
        assert_gram_symmetric(gram, maps)
