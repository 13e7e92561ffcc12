"""Compare the strongest images and their patches with a pass over all images at once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from convlens import TopInterrupted, activations, deconvolve, top_images, top_patches


@pytest.fixture(scope="module")
def many():
    return np.random.default_rng(9).random((200, 13, 13, 2), dtype=np.float32)


@pytest.mark.parametrize("batch_size", [200, 64, 7])
def test_it_is_what_sorting_all_activations_gives(tiny_network, many, batch_size):
    top = top_images(tiny_network, many, k=5, batch_size=batch_size)
    for layer, maps in activations(tiny_network, many).items():
        peaks = maps.max(axis=(1, 2))
        order = np.argsort(-peaks, axis=0, kind="stable")[:5].T
        fired = peaks.max(axis=0) > 0
        np.testing.assert_array_equal(top.indices[layer][fired], order[fired])
        np.testing.assert_allclose(
            top.activations[layer], -np.sort(-peaks, axis=0)[:5].T, rtol=1e-5, atol=1e-6
        )
    assert top.seen == 200
    assert top.model == "tiny"


def test_batches_may_come_from_a_generator_and_be_prepared(tiny_network, many):
    whole = top_images(tiny_network, many, "conv_b", k=3)
    small = (many * 100).astype(np.uint8)

    def batches():
        for i in range(0, 200, 33):
            yield many[i : i + 33], np.zeros(33)

    streamed = top_images(tiny_network, batches(), "conv_b", k=3)
    np.testing.assert_array_equal(streamed.indices["conv_b"], whole.indices["conv_b"])
    prepared = top_images(tiny_network, small, "conv_b", k=3, prepare=lambda x: x / 100)
    assert all(image.dtype == np.uint8 for image in prepared.images.values())
    for number, image in prepared.images.items():
        np.testing.assert_array_equal(image, small[number])


def test_of_equal_images_the_first_are_kept(tiny_network, many):
    same = np.repeat(many[:1], 50, axis=0)
    top = top_images(tiny_network, same, "conv_a", k=4, batch_size=8)
    assert (top.indices["conv_a"] == [0, 1, 2, 3]).all()


def test_memory_does_not_grow_with_the_number_of_images(tiny_network):
    def stream(batches):
        draw = np.random.default_rng(0)
        for _ in range(batches):
            yield draw.random((64, 13, 13, 2), dtype=np.float32)

    top_images(tiny_network, stream(2), k=2)
    peaks = []
    for batches in (5, 60):
        tracemalloc.start()
        top = top_images(tiny_network, stream(batches), k=2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        named = {int(i) for table in top.indices.values() for i in table.flat}
        assert set(top.images) == named
    assert peaks[1] < 1.5 * peaks[0]


def test_an_interruption_keeps_what_was_found(tiny_network, many):
    def batches():
        yield many[:64]
        yield many[64:128]
        raise KeyboardInterrupt

    with pytest.raises(TopInterrupted, match="after 128 images") as caught:
        top_images(tiny_network, batches(), "conv_a", k=3)
    half = top_images(tiny_network, many[:128], "conv_a", k=3)
    np.testing.assert_array_equal(caught.value.result.indices["conv_a"], half.indices["conv_a"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": "conv_c"}, "no layer 'conv_c'"),
        ({"k": 0}, "k must be at least 1"),
        ({"k": 201}, "k must be at most 200, the number of images, not 201"),
        ({"prepare": lambda x: x[..., :1]}, "takes images of shape"),
        ({"prepare": lambda x: x * np.nan}, "not finite"),
    ],
)
def test_bad_arguments_are_refused(tiny_network, many, arguments, message):
    with pytest.raises(ValueError, match=message):
        top_images(tiny_network, many, **arguments)


def test_patches_are_cut_where_the_unit_was_strongest(tiny_network, many):
    top = top_images(tiny_network, many, "conv_a", k=4)
    found = top_patches(tiny_network, top, "conv_a", [1, 3])
    assert found.patches.shape == found.reconstructions.shape == (2, 4, 3, 3, 2)
    maps = activations(tiny_network, many, "conv_a")["conv_a"]
    for row, unit in enumerate(found.units):
        for rank in range(4):
            number = found.indices[row, rank]
            r, c = found.positions[row, rank]
            assert maps[number, r, c, unit] == maps[number, :, :, unit].max()
            framed = np.pad(many[number], ((1, 1), (1, 1), (0, 0)), constant_values=np.nan)
            np.testing.assert_array_equal(found.patches[row, rank], framed[r : r + 3, c : c + 3])
            whole = deconvolve(tiny_network, many[number], "conv_a", int(unit)).images[0]
            padded = np.pad(whole, ((1, 1), (1, 1), (0, 0)), constant_values=np.nan)
            np.testing.assert_allclose(
                found.reconstructions[row, rank], padded[r : r + 3, c : c + 3], atol=1e-6
            )
    np.testing.assert_allclose(found.activations, top.activations["conv_a"][[1, 3]], rtol=1e-5)


def test_a_field_larger_than_the_image_shows_the_image(tiny_network, many):
    top = top_images(tiny_network, many, ["conv_a", "conv_b"], k=1)
    found = top_patches(tiny_network, top, "conv_b", 0)
    assert found.patches.shape[2] <= 13
    with pytest.raises(ValueError, match="layer 'pool_a' is not in `top`"):
        top_patches(tiny_network, top, "pool_a")
