"""Baselines in a pytest run: items, the fixture, updates and accepted changes."""

from __future__ import annotations

import json

import numpy as np
import pytest

FOLDER = "convlens-baselines"
RUN = ("-p", "no:cacheprovider")
MODEL = (*RUN, "--convlens", "mnist_cnn", "-k", "baseline")
LAYERS = [
    *("input", "conv2d_1", "max_pooling2d_1", "conv2d_2", "max_pooling2d_2", "conv2d_3"),
    *("max_pooling2d_3", "dense_1", "predictions"),
]


@pytest.fixture
def changing(pytester):
    """A test whose value is in a file, so that it can be changed."""
    pytester.makepyfile(
        test_it="""
        import json
        from pathlib import Path

        def test_value(baseline):
            baseline.check(json.loads(Path("value.json").read_text()))
        """
    )

    def change(value):
        (pytester.path / "value.json").write_text(json.dumps(value))

    change([1.0, 2.0])
    return change


def files(pytester, pattern="*.npz"):
    return sorted(path.name for path in (pytester.path / FOLDER).glob(pattern))


def failures(result):
    """The numbers of items that fail in full, and that follow."""
    counts = result.parseoutcomes()
    return counts.get("failed", 0), counts.get("follow", 0)


def test_without_baselines_there_are_no_such_items(pytester):
    result = pytester.runpytest("--convlens", "mnist_cnn", "--collect-only", "-q")
    assert not [line for line in result.outlines if "::baseline" in line]


@pytest.mark.parametrize(
    "options", [["--convlens-baselines", "b"], ["--convlens-update=missing"], ["--convlens-seed=0"]]
)
def test_with_an_option_or_the_folder_each_layer_is_an_item(pytester, options):
    if "seed" in options[0]:
        pytester.mkdir(FOLDER)
    result = pytester.runpytest("--convlens", "mnist_cnn", "--collect-only", "-q", *options)
    assert [f"mnist_cnn::baseline[{n}]" for n in LAYERS] == [
        line for line in result.outlines if "::baseline" in line
    ]


@pytest.mark.slow
def test_with_the_ini_option_each_layer_is_an_item(pytester, mnist_items):
    pytester.makeini("[pytest]\nconvlens_baselines = kept/here")
    assert failures(pytester.runpytest(*MODEL)) == (1, 8)
    pytester.runpytest(*MODEL, "--convlens-update=missing").assert_outcomes(
        passed=9, deselected=mnist_items
    )
    assert len(list((pytester.path / "kept" / "here").iterdir())) == 3


def test_a_missing_baseline_fails_is_recorded_and_then_passes(pytester, mnist_items):
    result = pytester.runpytest(*MODEL, "--convlens-baselines", FOLDER)
    assert failures(result) == (1, 8)
    result.stdout.fnmatch_lines(
        ["there is no baseline of 'mnist_cnn::baseline' in *: record it with --convlens-update=m*"]
    )
    result = pytester.runpytest(*MODEL, "--convlens-update=missing")
    result.assert_outcomes(passed=9, deselected=mnist_items)
    result.stdout.fnmatch_lines(["*= convlens: baselines =*", "recorded: *mnist-cnn-baseline~*npz"])
    for suffix in ("npz", "png", "txt"):
        assert len(files(pytester, f"*.{suffix}")) == 1
    pytester.runpytest(*MODEL).assert_outcomes(passed=9, deselected=mnist_items)


def test_one_item_can_be_named(pytester):
    pytester.runpytest(*MODEL, "--convlens-update=missing")
    result = pytester.runpytest(*RUN, "mnist_cnn::baseline[conv2d_2]")
    result.assert_outcomes(passed=1)


def test_a_changed_layer_fails_and_those_after_it_say_which_was_first(pytester, tiny, tiny_items):
    path = pytester.path / "tiny.keras"
    tiny.save(path)
    run = (*RUN, str(path), "-k", "baseline")
    pytester.runpytest(*run, "--convlens-update=missing").assert_outcomes(
        passed=6, deselected=tiny_items
    )
    kernel, bias = tiny.get_layer("conv_b").get_weights()
    kernel[..., 2] *= 1.01
    tiny.get_layer("conv_b").set_weights([kernel, bias])
    tiny.save(path)
    result = pytester.runpytest(*run)
    result.assert_outcomes(passed=3, failed=1, deselected=tiny_items)
    assert failures(result) == (1, 2)
    result.stdout.fnmatch_lines(
        [
            "the first layer that diverges is 'conv_b', after 3 that agree*worst channel 2 *",
            "*likely cause: the weights of 'conv_b' changed*",
            "  *tiny-keras-baseline~*.npz: accept it with --convlens-update=failed",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    result = pytester.runpytest(*run, "--convlens-update=failed")
    result.assert_outcomes(passed=6, deselected=tiny_items)
    pytester.runpytest(*run).assert_outcomes(passed=6, deselected=tiny_items)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("mode", "new", "gone", "same"),
    [("missing", True, False, False), ("failed", True, True, False), ("all", True, True, True)],
)
def test_what_each_update_records(pytester, changing, mode, new, gone, same):
    """A baseline that is missing, one that fails, and one that passes."""
    pytester.runpytest(*RUN, "--convlens-update=all")
    file = pytester.path / FOLDER / files(pytester)[0]

    def touched(value, remove=False):
        pytester.runpytest(*RUN, "--convlens-update=all")
        if remove:
            file.unlink()
        changing(value)
        before = file.stat().st_mtime_ns if file.exists() else None
        pytester.runpytest(*RUN, f"--convlens-update={mode}")
        return (file.stat().st_mtime_ns if file.exists() else None) != before

    assert touched([1.0, 2.0], remove=True) is new
    assert touched([5.0, 2.0]) is gone
    assert touched([5.0, 2.0]) is same


def test_the_fixture_says_what_changed(pytester, changing):
    pytester.runpytest(*RUN).assert_outcomes(failed=1)
    pytester.runpytest(*RUN, "--convlens-update=missing").assert_outcomes(passed=1)
    pytester.runpytest(*RUN).assert_outcomes(passed=1)
    changing([1.0, 2.5])
    result = pytester.runpytest(*RUN)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E * AssertionError: 'value' differs from the baseline: * at (1,) it is 2.5, but*",
            "E * accept it with --convlens-update=failed",
        ]
    )
    assert "check.py" not in result.stdout.str()  # its own frames are hidden


def test_names_parameters_classes_and_several_checks_do_not_collide(pytester):
    pytester.makepyfile(
        """
        import pytest

        class TestOne:
            def test_it(self, baseline): baseline.check(1)

        class TestTwo:
            def test_it(self, baseline): baseline.check(2)

        @pytest.mark.parametrize("n", ["a/b", "a.b", "a-b", "../../x"])
        def test_it(baseline, n): baseline.check(n)

        def test_names(baseline):
            for name in ("a/b", "a.b", "a-b", "../../x", "2"):
                baseline.check(name, name=name)
            baseline.check("first")
            baseline.check("second")
        """
    )
    for _ in range(2):
        pytester.runpytest(*RUN, "--convlens-update=missing").assert_outcomes(passed=7)
    assert len(files(pytester)) == 13
    assert {path.parent.name for path in pytester.path.rglob("*.npz")} == {FOLDER}


def test_a_name_that_was_used_is_refused(pytester):
    pytester.makepyfile(
        """
        import pytest

        def test_it(baseline):
            baseline.check(1, name="x")
            with pytest.raises(ValueError, match="used the baseline 'x' before: give another name"):
                baseline.check(2, name="x")
            with pytest.raises(ValueError, match="a baseline's name is a text, not 3"):
                baseline.check(2, name=3)
        """
    )
    pytester.runpytest(*RUN, "--convlens-update=missing").assert_outcomes(passed=1)


def test_comparisons_are_handed_on_with_their_item(pytester, changing):
    pytester.makeconftest(
        """
        def pytest_convlens_compared(item, comparison):
            found = comparison
            print("FOUND", item.name, found.key, found.passed, len(found.fingerprint))
        """
    )
    pytester.runpytest(*RUN, "--convlens-update=all")
    changing([7.0])
    for arguments, line in (
        (RUN, "*FOUND test_value test_it.py::test_value False 16"),
        (
            (*MODEL, "--convlens-update=all"),
            "*FOUND baseline?conv2d_1? mnist_cnn::baseline True 16",
        ),
    ):
        pytester.runpytest(*arguments, "-s").stdout.fnmatch_lines([line])


def accept(pytester, *entries, **changes):
    content = {"format": "convlens-accept", "version": 1, "accept": list(entries), **changes}
    (pytester.path / "accept.json").write_text(json.dumps(content))
    return "--convlens-accept=accept.json"


def fingerprint(value):
    from convlens.baselines.check import observe

    return observe(value).fingerprint


def test_an_accepted_change_is_recorded_and_no_other(pytester, changing):
    pytester.makepyfile(test_other="def test_it(baseline): baseline.check(5.0)")
    pytester.runpytest(*RUN, "--convlens-update=all")
    pytester.makepyfile(test_other="def test_it(baseline): baseline.check(6.0)")
    changing([1.0, 3.0])
    entry = {"key": "test_it.py::test_value", "fingerprint": fingerprint([1.0, 3.0])}
    pytester.runpytest(*RUN, accept(pytester, entry)).assert_outcomes(passed=1, failed=1)
    result = pytester.runpytest(*RUN)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_other.py::test_it *"])


def test_a_change_that_is_not_the_accepted_one_is_not_recorded(pytester, changing):
    pytester.runpytest(*RUN, "--convlens-update=all")
    entry = {"key": "test_it.py::test_value", "fingerprint": fingerprint([1.0, 3.0])}
    changing([1.0, 4.0])
    result = pytester.runpytest(*RUN, accept(pytester, entry))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*is out of date: the value changed again*Review it again.*"])
    changing([1.0, 2.0])
    pytester.runpytest(*RUN).assert_outcomes(passed=1)


@pytest.mark.slow
def test_an_accepted_change_of_a_model(pytester, tiny, tiny_file, tiny_items):
    run = (*RUN, str(tiny_file), "-k", "baseline")
    pytester.runpytest(*run, "--convlens-update=missing")
    kernel, bias = tiny.get_layer("conv_a").get_weights()
    tiny.get_layer("conv_a").set_weights([kernel * np.float32(1.1), bias])
    tiny.save(tiny_file)
    pytester.makeconftest(
        """
        def pytest_convlens_compared(item, comparison):
            with open("found.txt", "a") as stream:
                print(comparison.key, comparison.fingerprint, file=stream)
        """
    )
    result = pytester.runpytest(*run)
    assert failures(result) == (1, 4)
    (found,) = set((pytester.path / "found.txt").read_text().splitlines())
    key, mark = found.split()
    pytester.runpytest(*run, accept(pytester, {"key": key, "fingerprint": mark})).assert_outcomes(
        passed=6, deselected=tiny_items
    )
    pytester.runpytest(*run).assert_outcomes(passed=6, deselected=tiny_items)


GOOD = {"key": "k", "fingerprint": "0" * 16}


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("entries", "changes", "message"),
    [
        ([], {"format": "other"}, "its format is not 'convlens-accept'"),
        ([], {"version": 2}, "its version is not 1"),
        ([], {"version": True}, "its version is not 1"),
        ([], {"more": 1}, "it has other entries than"),
        ([], {"accept": {}}, "it has other entries than"),
        ([{"key": "k"}], {}, "entry 0 is not a key and a fingerprint"),
        ([GOOD, {**GOOD, "x": 1}], {}, "entry 1 is not a key and a fingerprint"),
        ([{**GOOD, "key": 3}], {}, "the key of entry 0 is not a text"),
        ([{**GOOD, "fingerprint": "../x"}], {}, "the fingerprint of entry 0 is not 16 digits"),
        ([GOOD, {**GOOD, "fingerprint": "1" * 16}], {}, "entry 1 accepts another change of 'k'"),
    ],
)
def test_a_list_that_says_anything_else_is_refused(pytester, entries, changes, message):
    result = pytester.runpytest(accept(pytester, *entries, **changes))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --convlens-accept *{message}*export it anew*"])


@pytest.mark.quick(1)
@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, "null"])
def test_a_file_that_is_no_list_is_refused_in_one_line(pytester, content):
    (pytester.path / "accept.json").write_text(content)
    result = pytester.runpytest("--convlens-accept", "accept.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stderr.str()
    missing = pytester.runpytest("--convlens-accept", "nosuch.json")
    missing.stderr.fnmatch_lines(["*nosuch.json cannot be read*No such file*"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--convlens-update=most"], "invalid choice: 'most'"),
        (["--convlens-variant=device"], "give it with --convlens-update or --convlens-accept"),
        (["--convlens-keep"], "give it with --convlens-update or --convlens-accept"),
        (["--convlens-update=all", "--convlens-accept=x"], "give one of them"),
    ],
)
def test_options_that_make_no_sense_are_refused(pytester, options, message):
    result = pytester.runpytest(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()


def test_variants_and_alternatives_from_the_command_line(pytester, changing):
    pytester.runpytest(*RUN, "--convlens-update=all")
    changing([3.0])
    pytester.runpytest(*RUN, "--convlens-update=failed", "--convlens-keep")
    for value in ([1.0, 2.0], [3.0]):
        changing(value)
        pytester.runpytest(*RUN).assert_outcomes(passed=1)
    changing([4.0])
    pytester.runpytest(*RUN, "--convlens-update=failed", "--convlens-variant=device")
    pytester.runpytest(*RUN).assert_outcomes(passed=1)
    changing([3.0])
    pytester.runpytest(*RUN).assert_outcomes(failed=1)
    assert len(files(pytester)) == 3


@pytest.mark.slow
def test_each_output_of_a_model_has_an_item(pytester):
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    maps = layers.Conv2D(4, 3, activation="relu", name="c")(image)
    x = layers.GlobalAveragePooling2D(name="pool")(maps)
    heads = {
        "scores": layers.Dense(3, activation="softmax", name="scores")(x),
        "box": layers.Dense(4, name="box")(x),
        "sum": keras.ops.sum(maps, axis=-1),
    }
    model = keras.Model(image, heads)
    model.save("m.keras")
    run = (*RUN, "m.keras", "-k", "baseline", "-v", "--convlens-baselines=b")
    result = pytester.runpytest(*run, "--convlens-update=missing")
    names = ["input", "c", "pool", "box", "scores", "predictions"]
    result.assert_outcomes(passed=len(names), deselected=result.parseoutcomes()["deselected"])
    for name in names:
        result.stdout.fnmatch_lines([f"*::baseline?{name}? PASSED*"])
    for changed, failing in (("box", ["box"]), ("scores", ["scores"])):
        original = model.get_layer(changed).get_weights()
        model.get_layer(changed).set_weights([original[0] * 1.5, original[1]])
        model.save("m.keras")
        result = pytester.runpytest(*run)
        assert result.parseoutcomes()["failed"] == len(failing)
        result.stdout.fnmatch_lines([f"*::baseline?{name}? FAILED*" for name in failing])
        model.get_layer(changed).set_weights(original)


def test_a_test_of_many_examples_needs_names(pytester):
    pytester.makepyfile(
        """
        from hypothesis import HealthCheck, given, settings, strategies as st

        @settings(suppress_health_check=list(HealthCheck), database=None, max_examples=5)
        @given(number=st.integers(0, 3))
        def test_it(baseline, number):
            baseline.check(number)
        """
    )
    result = pytester.runpytest(*RUN, "--convlens-update=missing")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*runs many examples*give baseline.check a name=*"])
    assert files(pytester) == []


@pytest.mark.slow
def test_two_workers_that_keep_the_earlier_baseline_add_one(pytester, tiny, tiny_file):
    run = (*RUN, str(tiny_file), "-k", "baseline")
    pytester.runpytest(*run, "--convlens-update=missing")
    kernel, bias = tiny.get_layer("conv_a").get_weights()
    tiny.get_layer("conv_a").set_weights([kernel * np.float32(1.1), bias])
    tiny.save(tiny_file)
    keep = ("--convlens-update=failed", "--convlens-keep")
    pytester.runpytest_subprocess(*run, *keep, "-n2").assert_outcomes(passed=6)
    assert len(files(pytester)) == 2
    pytester.runpytest(*run, *keep[1:], "--convlens-update=all")
    assert len(files(pytester)) == 2


def test_comparisons_that_were_used_are_let_go_of(monkeypatch, tmp_path):
    from types import SimpleNamespace

    from convlens.baselines.comparison import Comparison, LayerDifference, PicturePair
    from convlens.pytest_plugin import baselines

    options = {"convlens_baselines": str(tmp_path), "convlens_update": None}
    config = SimpleNamespace(
        getoption=options.get,
        getini=lambda name: "",
        rootpath=tmp_path,
        invocation_params=SimpleNamespace(dir=tmp_path),
    )
    session = baselines.BaselineSession(config, {})
    pixels = np.zeros((1000, 1000), np.uint8)
    layers = (LayerDifference("a", 1.0, 0.0, None, True),)

    def compare(place, key, observed, tol):
        pictures = (PicturePair("a", pixels.copy(), pixels.copy(), layer="a"),)
        return Comparison(key, "", "", True, layers=layers, pictures=pictures)

    monkeypatch.setattr("convlens.baselines.check.compare_with_baseline", compare)
    monkeypatch.setattr(session, "_store", object())
    observed = []
    for _ in range(2):
        for number in range(20):
            found = session.compare(str(number), lambda: observed.append(1), layer="a")
            assert found.passed
            assert len(found.pictures) == 1
            session.compare(f"fixture {number}", lambda: observed.append(1))
    kept = session._comparisons._kept
    assert sum(map(baselines._size, kept.values())) <= baselines._BUDGET
    assert list(kept) == ["16", "17", "18", "19"]
    assert session._unsettled == {}
    assert len(observed) == 80


def test_a_folder_that_cannot_be_written_to_fails_in_one_line(pytester):
    pytester.makefile(".txt", blocked="")
    result = pytester.runpytest(
        *MODEL, "--convlens-update=missing", "--convlens-baselines=blocked.txt/x"
    )
    assert failures(result) == (1, 8)
    result.stdout.fnmatch_lines(["cannot write to *blocked.txt/x*: make the folder*writable, or*"])
    assert "Traceback" not in result.stdout.str()


@pytest.mark.slow
def test_four_workers_that_update_at_once_lose_nothing(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(64))
        def test_it(baseline, n):
            baseline.check([float(n)] * 1000)
        """
    )
    result = pytester.runpytest_subprocess(*RUN, "-n4", "--convlens-update=all")
    result.assert_outcomes(passed=64)
    assert len(files(pytester)) == len(files(pytester, "*.png")) == 64
    assert files(pytester, ".*") == []
    assert result.stdout.str().count("recorded: ") == 64
    pytester.runpytest(*RUN).assert_outcomes(passed=64)


@pytest.mark.slow
def test_workers_that_share_a_models_baseline_agree(pytester, mnist_items):
    run = (*MODEL, "-n2", "--dist=each")
    result = pytester.runpytest_subprocess(*run, "--convlens-update=all")
    result.assert_outcomes(passed=18)
    pytester.runpytest(*MODEL).assert_outcomes(passed=9, deselected=mnist_items)
