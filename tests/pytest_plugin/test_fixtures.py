"""The fixtures, as a user's test files see them."""

from __future__ import annotations

TINY = """
    import keras, numpy as np, pytest
    from keras import layers

    def build(name="mine", filters=3):
        keras.utils.set_random_seed(0)
        return keras.Sequential([
            keras.Input((8, 8, 1)),
            layers.Conv2D(filters, 3, activation="relu"),
            layers.Conv2D(filters + 1, 3, activation="relu"),
        ], name=name)
"""


def test_the_lens_offers_the_engine(pytester):
    pytester.makepyfile(
        """
        from convlens import assert_activation_increases, assert_gram_symmetric

        def test_lens(lens, mnist_cnn, digits):
            assert lens.model is mnist_cnn
            assert lens.images.shape == digits.images.shape == (200, 28, 28, 1)
            assert lens.activations("conv2d_1")["conv2d_1"].shape == (200, 28, 28, 24)
            images = lens.maximize("conv2d_1", [0, 3], steps=20)
            assert_activation_increases(lens.network, images)
            assert lens.deconvolve("conv2d_2", 5).images.shape == (1, 28, 28, 1)
            gram = lens.gram("conv2d_3", images=lens.images[:2])
            assert_gram_symmetric(gram, lens.activations("conv2d_3", lens.images[:2])["conv2d_3"])
            assert lens.maximize(None, [7], steps=5).layer == "predictions"
        """
    )
    pytester.runpytest().assert_outcomes(passed=1)


def test_a_test_runs_once_for_each_convolution(pytester):
    pytester.makepyfile("def test_layer(lens, conv_layer): assert conv_layer in lens.conv_layers")
    result = pytester.runpytest("-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines([f"*test_layer?conv2d_{i}? PASSED*" for i in (1, 2, 3)])


def test_the_option_names_the_model_under_test(pytester, tiny_file, tiny_items):
    pytester.makepyfile(
        """
        def test_model(lens):
            assert lens.name == "tiny"
            assert lens.source.startswith("48 synthetic textures")

        def test_layer(conv_layer):
            assert conv_layer in ("conv_a", "conv_b")
        """
    )
    result = pytester.runpytest(".", "--convlens", str(tiny_file), "-m", "not convlens")
    result.assert_outcomes(passed=3, deselected=tiny_items)


def test_a_test_runs_for_each_of_several_models(pytester, tiny_file, mnist_items, tiny_items):
    pytester.makepyfile(
        """
        def test_model(lens): assert lens.name in ("tiny", "mnist_cnn")
        def test_layer(lens, conv_layer): assert conv_layer in lens.conv_layers
        """
    )
    both = (".", "--convlens", "mnist_cnn", "--convlens", str(tiny_file), "-m", "not convlens")
    pytester.runpytest(*both).assert_outcomes(passed=2 + 3 + 2, deselected=mnist_items + tiny_items)


def test_the_model_under_test_can_be_overridden(pytester):
    pytester.makepyfile(
        TINY
        + """
    @pytest.fixture(scope="module")
    def convlens_model():
        return build()

    def test_model(lens):
        assert lens.name == "mine"

    def test_layer(lens, conv_layer):
        assert conv_layer in lens.conv_layers

    class TestOther:
        @pytest.fixture
        def convlens_model(self_or_nothing=None):
            return build("other", 5)

        @pytest.fixture
        def convlens_images(self):
            return np.full((2, 8, 8, 1), 200.0)

        def test_other(self, lens):
            assert (lens.name, lens.value_range) == ("other", (0.0, 255.0))
    """
    )
    result = pytester.runpytest("-v")
    result.assert_outcomes(passed=4)


def test_an_override_that_needs_other_fixtures_cannot_list_its_layers(pytester):
    pytester.makepyfile(
        TINY
        + """
    @pytest.fixture
    def convlens_model(tmp_path):
        return build()

    def test_model(lens):
        assert lens.name == "mine"
    """
    )
    pytester.runpytest().assert_outcomes(passed=1)
    pytester.makepyfile(
        test_more=TINY
        + """
    @pytest.fixture
    def convlens_model(tmp_path):
        return build()

    def test_layer(conv_layer):
        assert conv_layer
    """
    )
    result = pytester.runpytest("test_more.py")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*conv_layer must know the model while tests are collected*"])


def test_a_model_that_cannot_be_loaded_fails_the_test_in_one_line(pytester):
    (pytester.path / "bad.keras").write_bytes(b"no model")
    pytester.makepyfile("def test_model(lens): assert lens")
    result = pytester.runpytest("test_a_model_that_cannot_be_loaded_fails_the_test_in_one_line.py",
                                "--convlens", "bad.keras", "-k", "test_model",
                                "--continue-on-collection-errors")  # fmt: skip
    result.stdout.fnmatch_lines(
        ["bad.keras is truncated, or not a Keras file: it is not a ZIP archive"]
    )
    assert "Traceback" not in result.stdout.str()


def test_checks_hide_their_own_frames(pytester):
    pytester.makepyfile(
        """
        import numpy as np
        from convlens import assert_gram_symmetric

        def test_gram():
            assert_gram_symmetric(np.array([[1.0, 2.0], [0.0, 1.0]]))
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "raise_offenders" not in text
    assert "G[0,1] = 2 but G[1,0] = 0" in text
