"""The fixtures of trained networks, and networks of keras.applications named by --convlens."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from convlens.fixtures._applications import application_names
from convlens.pytest_plugin.targets import APPLICATIONS


@pytest.fixture(autouse=True)
def no_weights_of_this_machine(pytester, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(pytester.path / "home"))
    monkeypatch.delenv("CONVLENS_WEIGHTS", raising=False)


@pytest.fixture
def weights(pytester):
    """A folder with made-up weights of VGG19's first block."""
    keras.utils.set_random_seed(3)
    model = keras.applications.VGG19(include_top=False, weights=None)
    folder = pytester.mkdir("weights")
    arrays = {
        f"{layer.name}.{v.name}": np.asarray(v)
        for layer in model.layers
        if layer.name.startswith("block1")
        for v in layer.weights
    }
    np.savez(folder / "vgg19.npz", **arrays)
    return folder


def test_the_names_are_those_of_keras():
    assert sorted(APPLICATIONS) == application_names()


def test_without_weights_a_test_skips_and_says_how_to_fetch_them(pytester):
    pytester.makepyfile(
        """
        def test_sixteen(vgg16): raise RuntimeError
        def test_nineteen(vgg19): raise RuntimeError
        def test_other(pretrained): pretrained("resnet50")
        """
    )
    result = pytester.runpytest("-rs")
    result.assert_outcomes(skipped=3)
    for name in ("VGG16", "VGG19", "ResNet50"):
        result.stdout.fnmatch_lines([f"*python -m convlens.fixtures.pretrained {name}*"])


@pytest.mark.slow
def test_weights_that_are_given_reach_the_fixtures(pytester, weights):
    pytester.makepyfile(
        """
        import pytest

        def test_cut(vgg19, pretrained):
            assert vgg19.layers[-1].name == "block1_pool"
            assert pretrained("VGG19") is vgg19
            assert pretrained("VGG19", value_range=(0, 1)) is not vgg19

        @pytest.fixture
        def convlens_model(vgg19): return vgg19

        @pytest.fixture
        def convlens_images():
            import numpy as np
            return np.random.default_rng(0).random((2, 24, 24, 3))

        def test_images_in_0_to_1_are_brought_to_what_the_model_takes(lens):
            assert lens.value_range == (0.0, 255.0)
            assert 200 < lens.images.max() <= 255
            assert lens.maximize("block1_conv1", [0], steps=2).images.max() > 1
        """
    )
    pytester.runpytest("--convlens-weights", weights).assert_outcomes(passed=2)


@pytest.mark.slow
def test_preprocessed_images_are_refused(pytester, weights):
    pytester.makepyfile(
        """
        import numpy as np
        import pytest

        @pytest.fixture
        def convlens_model(vgg19): return vgg19

        @pytest.fixture
        def convlens_images():
            return np.random.default_rng(0).random((2, 24, 24, 3)) * 255 - 110

        def test_it(lens): pass
        """
    )
    result = pytester.runpytest("--convlens-weights", weights)
    result.stdout.fnmatch_lines(["*give the images before any preprocessing*"])


@pytest.mark.slow
def test_an_application_is_checked_without_test_code(pytester, weights):
    result = pytester.runpytest(
        "--convlens", "vgg19", "--convlens-weights", weights, "-k", "finite or gram"
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*convlens: VGG19*", "*block1_conv2*", "images: 48 synthetic*"])


def test_an_application_without_weights_is_an_error_in_one_line(pytester):
    result = pytester.runpytest("--convlens", "VGG16")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*there are no weights of VGG16*"])


def test_weights_that_are_nowhere_are_refused(pytester):
    result = pytester.runpytest("--convlens-weights", "nowhere")
    result.stderr.fnmatch_lines(["*--convlens-weights nowhere: there is no such file or folder"])


def test_a_name_that_is_nearly_an_application_is_offered(pytester):
    result = pytester.runpytest("--convlens", "vgg18")
    result.stderr.fnmatch_lines(["*did you mean VGG1*"])
