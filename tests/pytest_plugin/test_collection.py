"""Models as pytest items: collecting, selecting, and living with pytest's other options."""

from __future__ import annotations

import pytest

SHOWN = ("--convlens-pictures=seen", "--convlens-report=report.html")
QUICK = ("--convlens-steps=25", "-p", "no:cacheprovider")
ITEMS = [
    "mnist_cnn::finite[conv2d_1]",
    "mnist_cnn::finite[predictions]",
    "mnist_cnn::dead[conv2d_2]",
    "mnist_cnn::duplicates[conv2d_3]",
    "mnist_cnn::gram[conv2d_1]",
    "mnist_cnn::ascent[conv2d_2]",
    "mnist_cnn::deconvnet[conv2d_3]",
    "mnist_cnn::classes",
]


def test_the_shipped_model_is_collected_by_name(pytester, mnist_items):
    result = pytester.runpytest("--convlens", "mnist_cnn", "--collect-only", "-q")
    lines = result.outlines
    assert [item for item in ITEMS if item not in lines] == []
    assert sum(line.startswith("mnist_cnn::") for line in lines) == mnist_items
    assert result.ret == 0


@pytest.mark.slow
def test_the_shipped_model_passes_and_has_a_table(pytester, mnist_items):
    result = pytester.runpytest("--convlens", "mnist_cnn", "--convlens-steps=60", *SHOWN)
    result.assert_outcomes(passed=mnist_items)
    for note in ("was not made", "no picture was made"):
        assert note not in result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "*= convlens: mnist_cnn =*",
            "layer*units*dead*Gram residual*ascent gain*ascents*deconvnet residual*failed",
            "conv2d_1*24*0*e-0*24 of 24 units, 60 steps, 30×30*e-0*",
            "conv2d_2*48*0*e-0*48 of 48 units, 60 steps, 34×34*e-0*",
            "conv2d_3*64*0*e-0*64 of 64 units, 60 steps, 36×36*e-0*",
            "classes: 10 recognized*(10 of 10 classes, 60 steps, 28×28)",
            "images: 200 shipped digits",
        ]
    )


@pytest.mark.quick(1)
@pytest.mark.parametrize("how", ["path", "option"])
def test_a_model_file_is_collected_by_path_and_by_option(pytester, tiny_file, how, tiny_items):
    named = [str(tiny_file)] if how == "path" else ["--convlens", str(tiny_file)]
    result = pytester.runpytest(*named, "-v", *QUICK, "-k", "conv_a and not ascent")
    result.assert_outcomes(passed=5, deselected=tiny_items - 5)
    result.stdout.fnmatch_lines(["*tiny.keras::deconvnet?conv_a?*PASSED*"])
    result.stdout.fnmatch_lines(["images: 48 synthetic textures (seed 0)*"])


def test_the_models_alone_are_run_unless_paths_are_given(pytester, tiny_file):
    pytester.makepyfile("def test_mine(tmp_path): assert tmp_path.is_dir()")
    alone = pytester.runpytest("--convlens", str(tiny_file), "--collect-only", "-q")
    assert "test_mine" not in alone.stdout.str()
    both = pytester.runpytest(".", "--convlens", str(tiny_file), "--collect-only", "-q")
    assert "test_mine" in both.stdout.str()
    assert "tiny.keras::classes" in both.stdout.str()


def test_models_in_the_ini_file_are_added_to_the_tests(pytester, tiny_file):
    pytester.makepyfile("def test_mine(tmp_path): assert tmp_path.is_dir()")
    (pytester.path / "models").mkdir()
    tiny_file.rename(pytester.path / "models" / "tiny.keras")
    found = pytester.runpytest("--collect-only", "-q")
    assert "tiny.keras" not in found.stdout.str()
    pytester.makeini("[pytest]\nconvlens_models = models/*.keras")
    found = pytester.runpytest("--collect-only", "-q")
    assert "test_mine" in found.stdout.str()
    assert "models/tiny.keras::gram[conv_b]" in found.outlines


def test_a_node_id_runs_one_item(pytester, tiny_file):
    named = pytester.runpytest("mnist_cnn::gram[conv2d_2]", "-v")
    named.assert_outcomes(passed=1)
    named.stdout.fnmatch_lines(["mnist_cnn::gram?conv2d_2? PASSED*"])
    several = pytester.runpytest("mnist_cnn::dead", *QUICK)
    several.assert_outcomes(passed=3)
    in_file = pytester.runpytest(f"{tiny_file}::gram[conv_a]")
    in_file.assert_outcomes(passed=1)
    missing = pytester.runpytest("mnist_cnn::gram[conv2d_9]")
    missing.stderr.fnmatch_lines(["ERROR: not found: mnist_cnn::gram?conv2d_9?"])
    assert missing.ret == pytest.ExitCode.USAGE_ERROR


def plant_dead_filter(tiny, folder):
    kernel, bias = tiny.get_layer("conv_a").get_weights()
    kernel[..., 2], bias[2] = 0, -1
    tiny.get_layer("conv_a").set_weights([kernel, bias])
    tiny.save(folder / "broken.keras")
    return "broken.keras"


def test_a_defect_fails_with_its_layer_unit_and_numbers_and_no_traceback(
    pytester, tiny, tiny_items
):
    model = plant_dead_filter(tiny, pytester.path)
    result = pytester.runpytest(model, "-k", "dead or gram")
    result.assert_outcomes(failed=1, passed=3, deselected=tiny_items - 4)
    result.stdout.fnmatch_lines(
        [
            "*_ broken.keras: dead?conv_a? _*",
            "broken.keras has filters that never fire on 48 images, nor on images made to "
            "excite them (allowed in a layer: 0):",
            "  layer 'conv_a': 1 of 6 are dead, units 2 (always 0)",
            "conv_a * 6 * 1 * dead",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert ".py:" not in result.stdout.str()


def test_exitfirst_last_failed_and_junit(pytester, tiny, tiny_items):
    model = plant_dead_filter(tiny, pytester.path)
    first = pytester.runpytest(model, "-x", "-k", "dead or gram")
    first.assert_outcomes(failed=1, deselected=tiny_items - 4)
    again = pytester.runpytest(model, "--lf", "-v", "--junitxml=out.xml")
    again.assert_outcomes(failed=1)
    xml = (pytester.path / "out.xml").read_text()
    assert 'name="dead[conv_a]"' in xml
    assert 'name="convlens.dead" value="1"' in xml


@pytest.mark.slow
def test_it_works_with_xdist(pytester, tiny_file):
    result = pytester.runpytest_subprocess(
        "-n", "2", "--convlens", str(tiny_file), "--convlens-steps=25", "-k", "conv_b"
    )
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["conv_b * 5 *"])


@pytest.mark.weekly
def test_a_shipped_model_works_with_xdist(pytester):
    result = pytester.runpytest_subprocess("-n", "2", "--convlens", "mnist_cnn", "-k", "gram")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*convlens: mnist_cnn*", "conv2d_2*"])


def test_strict_markers_and_strict_config(pytester, tiny_file, tiny_items):
    pytester.makeini("[pytest]\nconvlens_models = *.nothing")
    strict = ("--strict-markers", "--strict-config")
    result = pytester.runpytest(str(tiny_file), *strict, "-m", "convlens", "-k", "gram")
    result.assert_outcomes(passed=2, deselected=tiny_items - 2)


def test_without_the_plugin_nothing_of_it_is_left(pytester):
    pytester.makepyfile(
        "def test_mine(pytestconfig): assert not hasattr(pytestconfig.option, 'convlens')"
    )
    pytester.runpytest("-p", "no:convlens").assert_outcomes(passed=1)
    refused = pytester.runpytest("-p", "no:convlens", "--convlens", "mnist_cnn")
    refused.stderr.fnmatch_lines(["*unrecognized arguments: --convlens*"])


def test_a_model_without_convolutions_skips_what_cannot_apply(pytester):
    import keras
    from keras import layers

    model = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Flatten(name="flat"), layers.Dense(3, name="out")],
        name="mlp",
    )
    model.save(pytester.path / "mlp.keras")
    result = pytester.runpytest(str(pytester.path / "mlp.keras"), "-rs", *QUICK)
    assert result.parseoutcomes()["skipped"] == 1
    result.stdout.fnmatch_lines(
        ["SKIPPED*mlp.keras has no convolutional layer*(its layers: flat, out)"]
    )


def test_a_model_without_classes_skips_their_images(pytester):
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(3, 3, name="c")], name="maps")
    model.save(pytester.path / "maps.keras")
    result = pytester.runpytest(str(pytester.path / "maps.keras"), "-rs", "-k", "classes")
    result.stdout.fnmatch_lines(["SKIPPED*maps.keras has no vector of classes as its output"])


def test_a_factory_is_a_model(pytester):
    pytester.makepyfile(
        mine="""
        import keras
        from keras import layers

        def build():
            keras.utils.set_random_seed(0)
            return keras.Sequential(
                [keras.Input((8, 8, 1)), layers.Conv2D(3, 3, name="c")], name="mine")
        """
    )
    pytester.mkpydir("package").joinpath("models.py").write_text("from mine import build\n")
    pytester.syspathinsert()
    for spec in ("mine:build", "package.models:build"):
        result = pytester.runpytest("--convlens", spec, "-v", "-k", "gram")
        result.stdout.fnmatch_lines([f"{spec}::gram?c? PASSED*"])


@pytest.mark.slow
def test_a_model_in_a_folder_that_is_given_too_is_checked_once(pytester, tiny_file):
    """Also where pytest does not look for tests, such as in 'build'."""
    tests = pytester.makepyfile("def test_mine(): pass")
    pytester.mkdir("build")
    built = pytester.path / "build" / "model.keras"
    built.write_bytes(tiny_file.read_bytes())
    for models in ((tiny_file,), (built,), (tiny_file, built)):
        options = [part for model in models for part in ("--convlens", str(model))]
        for given in ((".",), (".", str(models[0])), (str(models[0]), "."), (str(tests), ".")):
            result = pytester.runpytest(*given, *options, "--collect-only", "-q")
            lines = result.stdout.lines
            for model in models:
                assert sum(f"{model.name}::ascent[conv_a]" in line for line in lines) == 1
            assert sum("::test_mine" in line for line in lines) == 1
    result = pytester.runpytest(".", str(built), "--collect-only", "-q")
    result.stdout.fnmatch_lines(["*model.keras::ascent?conv_a?"])


@pytest.mark.slow
def test_pictures_are_written_for_each_layer_and_for_failures_too(pytester, tiny):
    from PIL import Image

    model = plant_dead_filter(tiny, pytester.path)
    folder = pytester.path / "pictures"
    pytester.runpytest(model, "--convlens-pictures", str(folder), *QUICK)
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*.png")}
    kinds = ("activations", "gram", "filters", "ascent", "deconvnet")
    layers = {f"broken.keras/{n}-{k}.png" for n in ("conv_a", "conv_b") for k in kinds}
    assert names == {*layers, "broken.keras/classes.png"}
    for path in folder.rglob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 150
            assert len(picture.getcolors(1 << 20)) > 8


def test_a_layers_name_cannot_leave_the_folder(pytester):
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(3, 3, name="..")], name="m")
    model.save(pytester.path / "m.keras")
    folder = pytester.path / "pictures"
    pytester.runpytest(
        str(pytester.path / "m.keras"), "--convlens-pictures", str(folder), "-k", "gram"
    )
    (written,) = folder.rglob("*.png")
    assert written.parent == folder / "m.keras"
    assert "\\" not in written.name


@pytest.mark.slow
@pytest.mark.parametrize(
    "option",
    [
        "--convlens-steps=7",
        pytest.param("--convlens-preset=feature-visualization", marks=pytest.mark.slow),
    ],
)
def test_options_of_the_ascent_reach_it(pytester, tiny_file, option, tiny_items):
    def gain(*options):
        result = pytester.runpytest(str(tiny_file), "-k", "ascent and conv_a", *QUICK, *options)
        result.assert_outcomes(passed=1, deselected=tiny_items - 1)
        return next(line for line in result.outlines if line.startswith("conv_a"))

    assert gain() == gain("--convlens-memory=0.0001")
    assert gain() != gain(option)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (("--convlens-effort=quick",), 12),
        pytest.param(("-o", "convlens_effort=quick"), 12, marks=pytest.mark.slow),
        (("-o", "convlens_effort=full", "--convlens-effort=quick"), 12),
        (("--convlens-effort=quick", "--convlens-steps=9", "--convlens-units=2"), 9),
    ],
)
def test_the_effort_decides_how_much_is_climbed(pytester, tiny_file, options, steps, tiny_items):
    result = pytester.runpytest(
        str(tiny_file), "-k", "ascent and conv_a", "-p", "no:cacheprovider", *options
    )
    result.assert_outcomes(passed=1, deselected=tiny_items - 1)
    units = "2 of 6" if steps == 9 else "6 of 6"
    result.stdout.fnmatch_lines([f"conv_a* {units} units, {steps} steps, 15×15*"])


def test_models_of_one_name_are_told_apart(pytester, tiny):
    for folder in ("a", "b"):
        (pytester.path / folder).mkdir()
        tiny.save(pytester.path / folder / "model.keras")
    result = pytester.runpytest(
        "a/model.keras", "b/model.keras", "-k", "dead", "--convlens-pictures=pictures"
    )
    result.assert_outcomes(passed=4)
    for folder in ("a", "b"):
        result.stdout.fnmatch_lines([f"*convlens: {folder}/model.keras*"])
    assert len(list((pytester.path / "pictures").iterdir())) == 2
    alone = pytester.runpytest("a/model.keras", "-k", "dead", "--convlens-pictures=alone")
    alone.stdout.fnmatch_lines(["*convlens: model.keras*"])
    assert [p.name for p in (pytester.path / "alone").iterdir()] == ["model.keras"]
