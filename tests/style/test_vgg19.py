"""Style transfer with the first three blocks of VGG19 and its real weights."""

from __future__ import annotations

import pytest

from convlens import (
    Network,
    activations,
    assert_gram_symmetric,
    assert_style_closer,
    assert_style_transfer_converges,
    gram_matrix,
    read_image,
    transfer_style,
)
from convlens.fixtures.pretrained import load_pretrained
from convlens.fixtures.style_pictures import STYLES, content_picture, style_picture
from convlens.style.transfer import default_layers

pytestmark = pytest.mark.slow

STYLE_LAYERS = ("block1_conv1", "block2_conv1", "block3_conv1")
CONTENT = content_picture(96)


@pytest.fixture(scope="module")
def vgg(vgg19_weights):
    return Network(load_pretrained("VGG19", vgg19_weights, value_range=(0.0, 1.0)))


def transferred(vgg, style):
    return transfer_style(
        CONTENT,
        style,
        vgg,
        content_layers="block3_conv4",
        style_layers=STYLE_LAYERS,
        steps=25,
    )


@pytest.mark.parametrize("name", STYLES)
def test_real_transfers_converge_and_are_nearer_the_style(vgg, name):
    style = style_picture(name, 96)
    result = transferred(vgg, style)
    found = assert_style_transfer_converges(vgg, result, content=CONTENT, style=style, factor=0.1)
    distances = assert_style_closer(vgg, result, content=CONTENT, style=style, factor=0.2)
    assert found.fall < 0.1
    assert tuple(distances) == STYLE_LAYERS


def test_real_gram_matrices_are_symmetric(vgg):
    maps = activations(vgg, read_image(style_picture("tiles", 96))[None], STYLE_LAYERS)
    for layer in STYLE_LAYERS:
        assert_gram_symmetric(gram_matrix(maps[layer]), maps[layer], name=layer)


def test_swapped_colors_are_noticed_on_real_weights(vgg):
    style = style_picture("strokes", 96)
    result = transferred(vgg, style[..., ::-1])
    with pytest.raises(AssertionError, match="it was measured on other pictures"):
        assert_style_transfer_converges(vgg, result, content=CONTENT, style=style)


def test_content_and_style_swapped_are_noticed_on_real_weights(vgg):
    style = style_picture("tiles", 96)
    result = transfer_style(
        style,
        CONTENT,
        vgg,
        content_layers="block3_conv4",
        style_layers=STYLE_LAYERS,
        steps=15,
    )
    with pytest.raises(AssertionError, match="the content was lost"):
        assert_style_transfer_converges(vgg, result, content=CONTENT, style=style)


def test_without_names_the_layers_of_its_blocks_are_taken(vgg):
    assert default_layers(vgg) == (("block3_conv4",), STYLE_LAYERS)
