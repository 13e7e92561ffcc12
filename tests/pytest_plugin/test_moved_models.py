"""A renamed or moved model keeps its baseline, and so does a project in all of its folders."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

RUN = ("-p", "no:cacheprovider")
FOLDER = "convlens-baselines"


def counts(result):
    found = result.parseoutcomes()
    return tuple(found.get(name, 0) for name in ("passed", "failed", "follow"))


@pytest.fixture
def recorded(pytester, tiny_file):
    """A conftest that leaves only the baseline's items, and a model with a baseline."""
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_collection_modifyitems(items):
            items[:] = [i for i in items if "::baseline" in i.nodeid or "test_" in i.nodeid]
        """
    )
    assert counts(pytester.runpytest(*RUN, str(tiny_file), "--convlens-update=missing"))[0] == 6
    return tiny_file


def names(pytester):
    return sorted(path.name.split("~")[0] for path in (pytester.path / FOLDER).glob("*.npz"))


def test_a_renamed_model_is_known_again_and_carried_over(pytester, recorded):
    recorded.rename(pytester.path / "new.keras")
    result = pytester.runpytest(*RUN, "new.keras")
    assert counts(result) == (0, 1, 5)
    result.stdout.fnmatch_lines(
        [
            "there is no baseline of 'new.keras::baseline' in *, but that of 'tiny.keras::base*' "
            "has exactly these weights, and all layers agree with it: carry it over with *missing.",
            "  usually: the model was renamed, moved or copied: before, it was 'tiny.keras::base*'",
            "  to record it: * --convlens-update=missing new.keras::baseline",
        ]
    )
    result = pytester.runpytest(*RUN, "new.keras", "--convlens-update=missing")
    assert counts(result) == (6, 0, 0)
    result.stdout.fnmatch_lines(["unused: *tiny-keras-baseline~*.npz (tiny.keras::baseline)"])
    assert counts(pytester.runpytest(*RUN, "new.keras")) == (6, 0, 0)
    pytester.runpytest(*RUN, ".", "new.keras", "--convlens-remove-unused")
    assert names(pytester) == ["new-keras-baseline"]


@pytest.mark.slow
def test_a_copy_of_a_model_makes_nothing_unused(pytester, recorded):
    shutil.copy(recorded, "copy.keras")
    result = pytester.runpytest(*RUN, "copy.keras", "--convlens-update=missing")
    assert counts(result) == (6, 0, 0)
    assert "unused: " not in result.stdout.str()


@pytest.mark.slow
def test_a_model_of_other_weights_or_behavior_is_not_taken_for_it(pytester, recorded, tiny):
    kernel, bias = tiny.get_layer("conv_b").get_weights()
    tiny.get_layer("conv_b").set_weights([kernel * np.float32(1.1), bias])
    tiny.save("other.keras")
    result = pytester.runpytest(*RUN, "other.keras")
    result.stdout.fnmatch_lines(["there is no baseline of 'other.keras::baseline' in *: record*"])
    recorded.rename(pytester.path / "new.keras")  # other images, so that no layer agrees
    result = pytester.runpytest(*RUN, "new.keras", "--convlens-seed=5")
    result.stdout.fnmatch_lines(["there is no baseline of 'new.keras::baseline' in *: record*"])


@pytest.mark.slow
@pytest.mark.parametrize("configured", [True, False])
def test_another_folder_of_the_project_has_the_same_baselines(
    pytester, recorded, monkeypatch, configured
):
    shutil.rmtree(pytester.path / FOLDER)
    if configured:
        pytester.makeini("[pytest]\n")
    models = pytester.mkdir("models")
    recorded.rename(models / "tiny.keras")
    (models / "test_it.py").write_text("def test_it(baseline): baseline.check(1)")
    run = (*RUN, "--convlens-update=missing")
    assert counts(pytester.runpytest(*run, "models/tiny.keras", "models/test_it.py"))[0] == 7
    assert names(pytester) == ["models-test-it-py-test-it", "models-tiny-keras-baseline"]
    monkeypatch.chdir(models)
    for arguments, passed in (
        (["tiny.keras", "test_it.py", "-k", "baseline or test_it"], 7),
        (["--convlens", "tiny.keras", "-k", "baseline"], 6),
        (["test_it.py"], 1),
    ):
        result = pytester.runpytest(*RUN, *arguments)
        assert counts(result) == (passed, 0, 0)
        assert "unused: " not in result.stdout.str()
    assert not (models / FOLDER).exists()


@pytest.mark.slow
def test_the_folder_of_another_project_is_not_used(pytester, recorded, monkeypatch):
    inner = pytester.mkdir("inner")
    (inner / ".git").mkdir()
    shutil.copy(recorded, inner / "tiny.keras")
    monkeypatch.chdir(inner)
    result = pytester.runpytest(*RUN, "tiny.keras", "-k", "baseline")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
