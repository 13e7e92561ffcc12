"""`transfer_style` on pictures."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from PIL import Image

from convlens import StyleInterrupted, read_image, transfer_style
from convlens.engine.ascent.colors import luminance
from convlens.engine.model.network import Network
from convlens.fixtures.style_pictures import content_picture, style_picture
from convlens.pictures import save_gif
from convlens.style.transfer import default_layers

LAYERS = {"content_layers": "high", "style_layers": ["low", "high"]}


@pytest.fixture(scope="module")
def network(new_style_network):
    return new_style_network()


@pytest.fixture(scope="module")
def content():
    return content_picture(40)[:32]


@pytest.fixture(scope="module")
def style():
    return style_picture("waves", 48)


def test_the_result_is_as_large_as_the_content_and_in_range(network, content, style):
    result = transfer_style(content, style, network, steps=12, **LAYERS)
    assert result.image.shape == (32, 40, 3)
    assert result.image.dtype == np.float32
    assert result.image.min() >= 0
    assert result.image.max() <= 1
    assert result.steps == 12
    assert result.names == ("content:high", "style:low", "style:high", "variation")
    assert result.styles[0].shape == (40, 40, 3)  # at the content's longest side
    np.testing.assert_array_equal(result.start, result.content)
    losses = result.losses
    assert losses["content"][0] == 0
    assert losses["total"][-1] < 0.5 * losses["total"][0]
    np.testing.assert_allclose(
        losses["total"], losses["content"] + losses["style"] + losses["variation"]
    )


def test_the_same_seed_gives_the_same_bits(network, content, style):
    options = {"steps": 3, "start": "noise", **LAYERS}
    one, same, other = (
        transfer_style(content, style, network, seed=seed, **options).image for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_where_it_starts(network, content, style):
    options = {"steps": 1, **LAYERS}
    at_style = transfer_style(content, style, network, start="style", **options)
    # Pillow rounds to whole values between its two passes, hence not to a rounding.
    assert np.abs(at_style.start - read_image(style_at(style, 40, 32))).mean() < 0.002
    given = np.full((20, 25, 3), 0.25)
    at_given = transfer_style(content, style, network, start=given, **options)
    np.testing.assert_allclose(at_given.start, 0.25, atol=1e-6)


def style_at(style, width, height):
    return np.asarray(Image.fromarray(style).resize((width, height), Image.Resampling.LANCZOS))


def test_coarse_to_fine_starts_each_scale_where_the_last_ended(network, content, style):
    result = transfer_style(content, style, network, steps=4, scales=2, **LAYERS)
    (coarse,) = result.coarser
    assert coarse.image.shape == (16, 20, 3)
    assert result.image.shape == (32, 40, 3)
    up = result.start.reshape(16, 2, 20, 2, 3).mean(axis=(1, 3))
    assert np.abs(up - coarse.image).mean() < 0.02


def test_files_and_pillow_pictures_are_read(network, content, style, tmp_path):
    Image.fromarray(content).save(tmp_path / "c.png")
    options = {"steps": 2, **LAYERS}
    from_file = transfer_style(tmp_path / "c.png", Image.fromarray(style), network, **options)
    np.testing.assert_array_equal(
        from_file.image, transfer_style(content, style, network, **options).image
    )


def test_size_sets_the_longest_side(network, content, style):
    result = transfer_style(content, style, network, steps=1, size=20, **LAYERS)
    assert result.image.shape == (16, 20, 3)


@pytest.mark.slow
def test_shares_say_which_style_counts(network, content, style):
    other = style_picture("tiles", 48)
    options = {"steps": 10, **LAYERS}
    alone = transfer_style(content, other, network, **options)
    shared = transfer_style(content, [style, other], network, style_shares=[0, 2], **options)
    np.testing.assert_array_equal(shared.shares, [0, 1])
    np.testing.assert_allclose(shared.image, alone.image, atol=1e-3)


@pytest.mark.slow
def test_masks_put_each_style_in_its_place(network, content, style):
    dark, bright = np.full((32, 32, 3), 0.1), np.full((32, 32, 3), 0.9)
    left = np.zeros((32, 40))
    left[:, :20] = 1
    result = transfer_style(
        content,
        [dark, bright],
        network,
        masks=[left, 1 - left],
        steps=30,
        content_weight=0,
        **LAYERS,
    )
    assert result.image[:, :16].mean() < result.image[:, 24:].mean() - 0.1


def test_luminance_keeps_the_contents_chroma(network, content, style):
    result = transfer_style(content, style, network, keep_colors="luminance", steps=5, **LAYERS)
    np.testing.assert_array_equal(result.content[..., 0], result.content[..., 2])
    np.testing.assert_allclose(luminance(result.image), luminance(result.optimized), atol=1e-5)
    given = read_image(content)
    wanted, kept = (x - luminance(x) for x in (given, result.image))
    assert np.corrcoef(wanted.ravel(), kept.ravel())[0, 1] > 0.95


def test_histogram_gives_the_style_the_contents_colors(network, content, style):
    result = transfer_style(content, style, network, keep_colors="histogram", steps=1, **LAYERS)
    given = read_image(content).reshape(-1, 3)
    np.testing.assert_allclose(
        result.styles[0].reshape(-1, 3).mean(axis=0), given.mean(axis=0), atol=0.05
    )


def test_the_tutorials_preset(network, content, style):
    result = transfer_style(
        content, style, network, preset="tensorflow-tutorial", size=40, steps=3, **LAYERS
    )
    weights = result.weights
    assert weights.convention == "tensorflow-tutorial"
    assert (weights.content, weights.style, weights.variation) == (1e4, 1e-2, 30.0)
    assert result.optimizer == "adam"


def test_the_tutorials_preset_steps_as_keras_adam_does(network, content, style):
    """Compare with three steps of the tutorial, taken by Keras's optimizer."""
    import tensorflow as tf

    options = {"preset": "tensorflow-tutorial", "size": 40, **LAYERS}
    result = transfer_style(content, style, network, steps=3, **options)
    tensors = [network.outputs["high"], network.outputs["low"]]

    def features(x):
        high, low = network.run(x, tensors)
        grams = [
            tf.linalg.einsum("bijc,bijd->bcd", m, m) / (m.shape[1] * m.shape[2])
            for m in (low, high)
        ]
        return high, grams

    target, _ = features(tf.constant(result.content[None]))
    _, styles = features(tf.constant(result.styles[0][None]))
    image = tf.Variable(result.content[None])
    optimizer = keras.optimizers.Adam(learning_rate=0.02, beta_1=0.99, epsilon=1e-1)
    for _ in range(3):
        with tf.GradientTape() as tape:
            high, grams = features(image)
            loss = 1e4 * tf.reduce_mean((high - target) ** 2)
            for gram, wanted in zip(grams, styles, strict=True):
                loss += 1e-2 / 2 * tf.reduce_mean((gram - wanted) ** 2)
            loss += 30 * tf.reduce_sum(tf.image.total_variation(image))
        optimizer.apply_gradients([(tape.gradient(loss, image), image)])
        image.assign(tf.clip_by_value(image, 0.0, 1.0))
    np.testing.assert_allclose(result.image, image[0], atol=1e-4)


def test_a_network_of_gray_pictures(mnist_cnn):
    result = transfer_style(
        content_picture(32),
        style_picture("waves", 32),
        mnist_cnn,
        size=28,
        steps=3,
        content_layers="conv2d_2",
        style_layers=["conv2d_1", "conv2d_2"],
    )
    assert result.image.shape == (28, 28, 1)


def test_ctrl_c_returns_the_best_image_so_far(network, content, style):
    def stop(done, total, losses):
        assert total == 50
        assert losses["total"] == pytest.approx(
            losses["content"] + losses["style"] + losses["variation"]
        )
        if done == 4:
            raise KeyboardInterrupt

    for optimizer in ("lbfgs", "adam"):
        with pytest.raises(StyleInterrupted, match=r"the best image of 4 steps") as caught:
            transfer_style(
                content, style, network, steps=50, optimizer=optimizer, progress=stop, **LAYERS
            )
        result = caught.value.result
        losses = result.losses["total"]
        assert len(losses) == 5
        assert losses[-1] < losses[0]
        assert (result.image != result.start).any()


def test_layers_that_are_found_where_none_are_named(network, tiny_network):
    assert default_layers(network) == (("high",), ("low", "high"))
    assert default_layers(tiny_network) == (("conv_b",), ("conv_a", "conv_b"))
    image = keras.Input((8, 8, 3))
    dense = keras.layers.Dense(3)(keras.layers.Flatten()(image))
    with pytest.raises(ValueError, match="no convolutional layer to compare styles at"):
        default_layers(Network(keras.Model(image, dense)))


def test_the_papers_layers_are_taken_where_they_are():
    vgg = keras.applications.VGG19(weights=None, include_top=False)
    content, style = default_layers(Network(vgg))
    assert content == ("block5_conv2",)
    assert style == tuple(f"block{i}_conv1" for i in range(1, 6))


def test_the_style_is_weighed_against_the_content(network, content, style):
    first = transfer_style(content, style, network, steps=1, **LAYERS)
    at_style = transfer_style(content, style, network, steps=1, start="style", **LAYERS)
    ratio = first.losses["style"][0] / at_style.losses["content"][0]
    assert ratio == pytest.approx(50, rel=1e-3)
    given = transfer_style(content, style, network, steps=1, style_weight=7.0, **LAYERS)
    assert given.weights.style == 7.0
    itself = transfer_style(content, content, network, steps=1, **LAYERS)
    assert itself.losses["total"][0] < 1e-6 * first.losses["total"][0]


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_it_ends_where_the_loss_is_reached(network, content, style, optimizer):
    options = {"optimizer": optimizer, **LAYERS}
    whole = transfer_style(content, style, network, steps=20, **options).losses["total"]
    goal = whole[8]
    short = transfer_style(content, style, network, steps=20, until_loss=goal, **options)
    assert short.steps == np.argmax(whole <= goal) > 0
    assert short.losses["total"][-1] <= goal < short.losses["total"][-2]


def test_frames_are_kept_and_written_as_an_animation(network, content, style, tmp_path):
    result = transfer_style(content, style, network, steps=9, frame_every=3, **LAYERS)
    assert len(result.frames) == 4
    np.testing.assert_array_equal(result.frames[0], result.start)
    np.testing.assert_array_equal(result.frames[-1], result.image)
    save_gif(result.frames, tmp_path / "way.gif")
    with Image.open(tmp_path / "way.gif") as animation:
        assert animation.n_frames == 4
        assert animation.size == (40, 32)
    with pytest.raises(ValueError, match="with the option frame_every"):
        save_gif([], tmp_path / "none.gif")
    assert not (tmp_path / "none.gif").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"content_layers": "hihg"}, "no layer 'hihg': did you mean 'high'"),
        ({"preset": "gram"}, "preset must be 'tensorflow-tutorial' or None, not 'gram'"),
        ({"optimizer": "sgd"}, "optimizer must be 'lbfgs' or 'adam', not 'sgd'"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"frame_every": -1}, "frame_every must be at least 0, not -1"),
        ({"scales": 0}, "scales must be at least 1, not 0"),
        ({"step_size": -1.0}, "step_size must be a positive number, not -1"),
        ({"keep_colors": "all"}, "keep_colors must be 'luminance', 'histogram' or None, not 'all'"),
        ({"style_shares": [1, 2]}, r"style_shares must have shape \(1,\), .* not \(2,\)"),
        ({"style_shares": [0.0]}, "style_shares must be 0 or more, and not all 0"),
        ({"masks": []}, "masks must hold 1, one for each style, not 0"),
        ({"masks": [np.zeros((4, 4))]}, "mask 0 must have values from 0 to 1, not all 0"),
        ({"masks": [np.ones((4, 4, 3))]}, r"mask 0 must have shape \(h, w\), not \(4, 4, 3\)"),
        ({"start": np.ones((3, 3, 2))}, r"not \(3, 3, 2\)"),
        ({"value_range": (1.0, 1.0)}, "range"),
        ({"memory_budget": 10_000}, r"a step at 32×40 takes about .* GiB.*: size=\d+ would fit"),
    ],
)
def test_invalid_arguments_are_refused(network, content, style, given, message):
    with pytest.raises(ValueError, match=message):
        transfer_style(content, style, network, **LAYERS | {"steps": 1} | given)


def test_no_style_is_refused(network, content):
    with pytest.raises(ValueError, match="style must be a picture or a list of at least one"):
        transfer_style(content, [], network, **LAYERS)


def test_too_small_a_picture_is_refused_with_a_valid_size(content, style):
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 5, name="low")(image)
    x = keras.layers.MaxPooling2D(2)(x)
    model = keras.Model(image, keras.layers.Conv2D(4, 3, name="high")(x), name="valid")
    with pytest.raises(
        ValueError, match=r"8×10 is too small for valid .*: at least 10×10 is needed"
    ):
        transfer_style(content, style, model, size=10, steps=1, **LAYERS)


def test_a_size_that_the_network_does_not_take_is_refused(mnist_cnn, content, style):
    layers = {"content_layers": "conv2d_2", "style_layers": "conv2d_1"}
    with pytest.raises(ValueError, match="takes only images of 28×28, not 32×40"):
        transfer_style(content, style, mnist_cnn, **layers)
