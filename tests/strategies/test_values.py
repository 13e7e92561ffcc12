"""Properties of Gram matrices, file names, stored values, and the ascent of linear networks."""

from __future__ import annotations

import subprocess
import sys

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from keras import layers

from convlens import (
    assert_gram_invariant,
    assert_gram_symmetric,
    assert_matches_baseline,
    gram_matrix,
    maximize,
)
from convlens.baselines.check import current_device
from convlens.baselines.store import Store, file_stem
from convlens.pictures.save import slug
from convlens.strategies import (
    NetworkSpec,
    Step,
    cnn_models,
    feature_maps,
    images,
    network_specs,
    register_profile,
)

quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@quick
@given(maps=feature_maps())
def test_a_gram_matrix_is_symmetric_semi_definite_and_position_invariant(maps):
    gram = gram_matrix(maps)
    expected = np.einsum("nijc,nijd->ncd", maps.astype(np.float64), maps.astype(np.float64))
    size = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(gram, expected, atol=1e-4 * size)
    if np.abs(expected).reshape(len(maps), -1).max(axis=1).min() > 1e-20:
        assert_gram_symmetric(gram, maps)
        if maps.shape[1] * maps.shape[2] > 1:
            assert_gram_invariant(maps)


@quick
@given(maps=feature_maps(shape=st.just((3, 3, 3))), at=st.integers(0, 8))
def test_a_wrong_entry_of_a_gram_matrix_is_detected(maps, at):
    maps = maps + np.eye(3, dtype=np.float32)[None, :, :, None]  # so that no channel is zero
    gram = np.array(gram_matrix(maps))
    row, column = divmod(at, 3)
    # The entry violates the Cauchy-Schwarz inequality, or is negative on the diagonal.
    gram[0, row, column] = -gram.max() if row == column else 3 * gram.max()
    with pytest.raises(AssertionError):
        assert_gram_symmetric(gram, maps)


KERNELS = hnp.arrays(
    np.float32, (4, 4, 2), elements=st.floats(-1, 1, width=32).filter(lambda v: abs(v) > 0.01)
)
PLAIN = {"jitter": 0, "norm_weight": 0, "tv_weight": 0}


def linear(kernel: np.ndarray) -> keras.Model:
    """Return a network with one unit that computes ⟨kernel, image⟩."""
    keras.utils.clear_session(free_memory=False)
    image = keras.Input(kernel.shape)
    model = keras.Model(image, layers.Conv2D(1, 4, use_bias=False, name="linear")(image))
    model.set_weights([kernel[..., None]])
    return model


@pytest.mark.slow
@settings(quick, max_examples=6)
@given(kernel=KERNELS)
def test_the_ascent_of_a_linear_network_follows_its_kernel(kernel):
    """The gradient is the kernel everywhere, so this is the best direction."""
    found = maximize(linear(kernel), "linear", [0], steps=10, optimizer="sgd", clip=False, **PLAIN)
    moved = (found.images - found.start)[0]
    moved /= np.linalg.norm(moved)
    np.testing.assert_allclose(moved, kernel / np.linalg.norm(kernel), atol=1e-4)


@pytest.mark.slow
@settings(quick, max_examples=6)
@given(kernel=KERNELS)
def test_the_clipped_ascent_of_a_linear_network_reaches_the_maximum(kernel):
    """For pixels between 0 and 1, ⟨k, x⟩ is maximal if x is 1 for k > 0 and 0 otherwise."""
    found = maximize(
        linear(kernel), "linear", [0], steps=120, step_size=0.05, optimizer="adam", **PLAIN
    )
    np.testing.assert_allclose(found.images[0], kernel > 0, atol=1e-5)
    assert found.trace[-1][0] == pytest.approx(float(np.maximum(kernel, 0).sum()), rel=1e-4)


@quick
@given(name=st.text(max_size=300), variant=st.sampled_from(["generic", "family", "device"]))
def test_file_names_never_leave_their_folder(name, variant, tmp_path):
    inside = tmp_path.resolve()
    path = Store(inside, current_device()).path(name, variant)
    assert path.resolve().is_relative_to(inside)
    assert path.name not in ("", ".", "..")
    assert len(path.name.encode()) <= 255
    for made in (file_stem(name), slug(name)):
        assert (inside / made).resolve().parent == inside
        assert made.isprintable()
        assert not set(made) & set('/\\:*?"<>|')


@quick
@given(one=st.text(max_size=40), other=st.text(max_size=40))
def test_different_names_have_different_file_names(one, other):
    assert (file_stem(one).casefold() == file_stem(other).casefold()) == (one == other)


VALUES = st.recursive(
    st.one_of(
        st.integers(-(2**40), 2**40),
        st.floats(-1e6, 1e6),
        st.booleans(),
        st.text(max_size=10),
        hnp.arrays(
            st.sampled_from([np.float32, np.float64, np.int64, np.uint8]),
            hnp.array_shapes(min_dims=1, max_dims=3, max_side=4),
            elements=st.integers(0, 200),
        ),
    ),
    lambda inner: st.dictionaries(st.text(min_size=1, max_size=8), inner, min_size=1, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@quick
@given(value=st.dictionaries(st.text(min_size=1, max_size=8), VALUES, min_size=1, max_size=3))
def test_a_stored_value_agrees_with_its_baseline(value, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    assert_matches_baseline(value, folder, "it", update="missing")
    assert assert_matches_baseline(value, folder, "it").passed
    value["one more"] = 1.0
    with pytest.raises(AssertionError):
        assert_matches_baseline(value, folder, "it")


@quick
@given(batch=images(value_range=(-1, 1)), maps=feature_maps(magnitude=3, count=st.integers(1, 4)))
def test_arrays_have_the_requested_shape_and_range(batch, maps):
    assert batch.dtype == maps.dtype == np.float32
    assert batch.shape[0] == 2
    assert batch.shape[3] in (1, 3)
    assert batch.min() >= -1
    assert batch.max() <= 1
    assert 1 <= len(maps) <= 4
    assert np.abs(maps).max() <= 3


@pytest.mark.slow
def test_arrays_shrink_to_simple_ones():
    quick = settings(max_examples=1000, derandomize=True, database=None, deadline=None)
    smallest = find(images(), lambda batch: True, settings=quick)
    assert smallest.shape == (2, 1, 1, 1)
    assert not smallest.any()
    assert not find(feature_maps(), lambda maps: maps.shape[3] > 2, settings=quick).any()


@pytest.mark.slow
def test_networks_shrink_to_simple_ones():
    quick = settings(max_examples=1000, derandomize=True, database=None, deadline=None)
    spec = find(network_specs(), lambda spec: True, settings=quick)
    assert spec == NetworkSpec((4, 4, 1), (Step("conv"),))
    with_pool = find(
        network_specs(), lambda s: any(x.kind == "max_pool" for x in s.steps), settings=quick
    )
    assert len(with_pool.steps) == 2


def test_a_failing_network_is_shown_as_its_spec():
    # Another test shrinks networks, which takes many seconds where each is built.
    @settings(quick, print_blob=False, phases=[Phase.generate])
    @given(model=cnn_models(classifier=True))
    def fails(model: keras.Model) -> None:
        assert model.output_shape[-1] == 0

    with pytest.raises(AssertionError) as failed:
        fails()
    notes = "\n".join(getattr(failed.value, "__notes__", []))
    words = next(line for line in notes.splitlines() if "model = NetworkSpec(" in line)
    again = eval(words.split("model = ")[1], {"NetworkSpec": NetworkSpec, "Step": Step})
    assert again.output_shape == (None, 2)


def test_the_registered_profile_has_the_given_settings(monkeypatch):
    before = hypothesis.settings.get_current_profile_name()
    try:
        for ci, fixed in (("1", True), ("", False)):
            monkeypatch.setenv("CI", ci)
            register_profile("ours", max_examples=7)
            loaded = hypothesis.settings()
            assert (loaded.deadline, loaded.max_examples, loaded.derandomize) == (None, 7, fixed)
    finally:
        hypothesis.settings.load_profile(before)


@pytest.mark.parametrize("strategy", [images, feature_maps])
def test_invalid_ranges_are_refused(strategy):
    option = {"value_range": (1, 1)} if strategy is images else {"magnitude": 0}
    with pytest.raises(ValueError, match=r"low < high|above 0"):
        strategy(**option)


@pytest.mark.slow
def test_the_import_error_without_hypothesis_says_what_to_install():
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import convlens\n"
        "try: import convlens.strategies\n"
        "except ImportError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == (
        "convlens.strategies needs hypothesis: pip install 'pytest-convlens[strategies]'"
    )
