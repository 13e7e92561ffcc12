"""Look inside trained convolutional networks, and fail the build when what is seen is wrong.

Every name is loaded when it is first used: importing `convlens` imports neither Keras nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convlens.baselines.check import assert_matches_baseline
    from convlens.baselines.compare import Comparison
    from convlens.checks.accuracy import assert_accuracy
    from convlens.checks.ascent import AscentGain, assert_activation_increases
    from convlens.checks.batch_norm import assert_batch_norm_trained
    from convlens.checks.classes import assert_class_images_recognised
    from convlens.checks.deconvnet import RoundTrip, assert_deconv_round_trip
    from convlens.checks.faithfulness import Faithfulness, assert_faithful
    from convlens.checks.filters import (
        FilterStatistics,
        assert_no_dead_filters,
        assert_no_duplicate_filters,
        filter_statistics,
    )
    from convlens.checks.finite import assert_finite
    from convlens.checks.gram import (
        GramInvariance,
        GramResiduals,
        assert_gram_invariant,
        assert_gram_symmetric,
    )
    from convlens.checks.randomization import (
        RandomizationSensitivity,
        assert_randomization_sensitive,
    )
    from convlens.checks.repeatable import assert_repeatable
    from convlens.checks.saturation import assert_not_saturated
    from convlens.engine.activations import activations
    from convlens.engine.ascent import Maximization, maximize
    from convlens.engine.deconvnet import Reconstruction, deconvolve, project
    from convlens.engine.faithfulness import PixelCurve, deletion_curve, insertion_curve
    from convlens.engine.gram import gram_matrix
    from convlens.engine.loading import ModelFileError, load_model
    from convlens.engine.network import Network
    from convlens.engine.randomization import RandomizationCurve, randomization_curve
    from convlens.lens import Lens
    from convlens.photographs import read_image
    from convlens.sound import Sound, read_sound, save_sound
    from convlens.sound_style import (
        SoundInterrupted,
        SoundTransfer,
        sound_network,
        transfer_sound,
    )
    from convlens.style import transfer_style
    from convlens.style_task import StyleInterrupted, StyleTransfer

_MODULE_OF = {
    "AscentGain": "checks.ascent",
    "AscentInterrupted": "engine.ascent",
    "Comparison": "baselines.compare",
    "Faithfulness": "checks.faithfulness",
    "FilterStatistics": "checks.filters",
    "GramInvariance": "checks.gram",
    "GramResiduals": "checks.gram",
    "Invariance": "engine.invariance",
    "InvarianceShares": "checks.invariance",
    "Lens": "lens",
    "Maximization": "engine.ascent",
    "ModelFileError": "engine.loading",
    "Network": "engine.network",
    "Objective": "engine.objectives",
    "Occlusion": "engine.occlusion",
    "PixelCurve": "engine.faithfulness",
    "RandomizationCurve": "engine.randomization",
    "RandomizationSensitivity": "checks.randomization",
    "Reconstruction": "engine.deconvnet",
    "RoundTrip": "checks.deconvnet",
    "Sound": "sound",
    "SoundInterrupted": "sound_style",
    "SoundTransfer": "sound_style",
    "StyleInterrupted": "style_task",
    "StyleTransfer": "style_task",
    "TopImages": "engine.topk",
    "TopInterrupted": "engine.topk",
    "TopPatches": "engine.patches",
    "activations": "engine.activations",
    "assert_accuracy": "checks.accuracy",
    "assert_activation_increases": "checks.ascent",
    "assert_batch_norm_trained": "checks.batch_norm",
    "assert_class_images_recognised": "checks.classes",
    "assert_deconv_round_trip": "checks.deconvnet",
    "assert_faithful": "checks.faithfulness",
    "assert_finite": "checks.finite",
    "assert_gram_invariant": "checks.gram",
    "assert_gram_symmetric": "checks.gram",
    "assert_invariant": "checks.invariance",
    "assert_matches_baseline": "baselines.check",
    "assert_no_dead_filters": "checks.filters",
    "assert_no_duplicate_filters": "checks.filters",
    "assert_not_saturated": "checks.saturation",
    "assert_occlusion_on_object": "checks.occlusion",
    "assert_occlusion_sensitive": "checks.occlusion",
    "assert_randomization_sensitive": "checks.randomization",
    "assert_repeatable": "checks.repeatable",
    "assert_style_closer": "checks.style",
    "assert_style_transfer_converges": "checks.style",
    "deconvolve": "engine.deconvnet",
    "deletion_curve": "engine.faithfulness",
    "filter_statistics": "checks.filters",
    "gram_matrix": "engine.gram",
    "insertion_curve": "engine.faithfulness",
    "invariance": "engine.invariance",
    "load_model": "engine.loading",
    "maximize": "engine.ascent",
    "occlude": "engine.occlusion",
    "project": "engine.deconvnet",
    "randomization_curve": "engine.randomization",
    "read_image": "photographs",
    "read_sound": "sound",
    "receptive_field": "engine.receptive_field",
    "save_sound": "sound",
    "sound_network": "sound_style",
    "top_images": "engine.topk",
    "top_patches": "engine.patches",
    "transfer_sound": "sound_style",
    "transfer_style": "style",
}

__all__ = [
    "AscentGain",
    "AscentInterrupted",
    "Comparison",
    "Faithfulness",
    "FilterStatistics",
    "GramInvariance",
    "GramResiduals",
    "Invariance",
    "InvarianceShares",
    "Lens",
    "Maximization",
    "ModelFileError",
    "Network",
    "Objective",
    "Occlusion",
    "PixelCurve",
    "RandomizationCurve",
    "RandomizationSensitivity",
    "Reconstruction",
    "RoundTrip",
    "Sound",
    "SoundInterrupted",
    "SoundTransfer",
    "StyleInterrupted",
    "StyleTransfer",
    "TopImages",
    "TopInterrupted",
    "TopPatches",
    "activations",
    "assert_accuracy",
    "assert_activation_increases",
    "assert_batch_norm_trained",
    "assert_class_images_recognised",
    "assert_deconv_round_trip",
    "assert_faithful",
    "assert_finite",
    "assert_gram_invariant",
    "assert_gram_symmetric",
    "assert_invariant",
    "assert_matches_baseline",
    "assert_no_dead_filters",
    "assert_no_duplicate_filters",
    "assert_not_saturated",
    "assert_occlusion_on_object",
    "assert_occlusion_sensitive",
    "assert_randomization_sensitive",
    "assert_repeatable",
    "assert_style_closer",
    "assert_style_transfer_converges",
    "deconvolve",
    "deletion_curve",
    "filter_statistics",
    "gram_matrix",
    "insertion_curve",
    "invariance",
    "load_model",
    "maximize",
    "occlude",
    "project",
    "randomization_curve",
    "read_image",
    "read_sound",
    "receptive_field",
    "save_sound",
    "sound_network",
    "top_images",
    "top_patches",
    "transfer_sound",
    "transfer_style",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'convlens' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"convlens.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
