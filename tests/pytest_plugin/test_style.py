"""Style transfer as an item of a model, with no test code."""

from __future__ import annotations

import pytest
from PIL import Image

from convlens.fixtures.style_pictures import content_picture, style_picture


@pytest.fixture
def pictures(pytester):
    Image.fromarray(content_picture(48)).save(pytester.path / "content.png")
    Image.fromarray(style_picture("waves", 48)).save(pytester.path / "waves.png")
    Image.fromarray(style_picture("tiles", 48)).save(pytester.path / "tiles.png")
    return ("--convlens-content=content.png", "--convlens-style=waves.png")


def test_style_is_an_item_where_pictures_are_given(pytester, pictures, mnist_items):
    result = pytester.runpytest(
        "--convlens",
        "mnist_cnn",
        *pictures,
        "--convlens-style=tiles.png",
        "--convlens-steps=60",
        "--convlens-pictures=seen",
        "-k",
        "style",
    )
    result.assert_outcomes(passed=1, deselected=mnist_items)
    result.stdout.fnmatch_lines(["style: the loss fell to * of its start in 60 steps"])
    for name in ("style", "style-losses"):
        with Image.open(pytester.path / "seen" / "mnist_cnn" / f"{name}.png") as picture:
            assert min(picture.size) > 200


@pytest.mark.slow
def test_a_transfer_that_does_not_converge_fails(pytester, pictures, mnist_items):
    result = pytester.runpytest(
        "--convlens", "mnist_cnn", *pictures, "--convlens-steps=1", "-k", "style"
    )
    result.assert_outcomes(failed=1, deselected=mnist_items)
    result.stdout.fnmatch_lines(["*mnist_cnn: the style transfer failed:", "*the loss fell from*"])


def test_there_is_no_such_item_without_pictures(pytester):
    result = pytester.runpytest("--convlens", "mnist_cnn", "--collect-only", "-q")
    assert "mnist_cnn::style" not in result.outlines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--convlens-style=waves.png"], "*go together: give both*"),
        (["--convlens-content=content.png"], "*go together: give both*"),
        (
            ["--convlens-content=none.png", "--convlens-style=waves.png"],
            "*--convlens-content none.png: there is no such file*",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(pytester, pictures, options, message):
    result = pytester.runpytest("--convlens", "mnist_cnn", *options)
    result.stderr.fnmatch_lines([message])
    assert result.ret == 4


def test_a_file_that_is_no_picture_fails_in_one_line(pytester, pictures, mnist_items):
    (pytester.path / "content.png").write_text("no picture")
    result = pytester.runpytest("--convlens", "mnist_cnn", *pictures, "-k", "style")
    result.assert_outcomes(failed=1, deselected=mnist_items)
    result.stdout.fnmatch_lines(["content.png is not a picture that Pillow can read"])
