"""The public names, each with the module that defines it: the one list of them."""

from .baselines.check import assert_matches_baseline as assert_matches_baseline
from .baselines.compare import Comparison as Comparison
from .checks.accuracy import assert_accuracy as assert_accuracy
from .checks.ascent import (
    AscentGain as AscentGain,
    assert_activation_increases as assert_activation_increases,
)
from .checks.batch_norm import assert_batch_norm_trained as assert_batch_norm_trained
from .checks.check import (
    Check as Check,
    Column as Column,
    Effort as Effort,
    LayerCheck as LayerCheck,
    ModelCheck as ModelCheck,
)
from .checks.classes import assert_class_images_recognized as assert_class_images_recognized
from .checks.dead import assert_no_dead_filters as assert_no_dead_filters
from .checks.deconvnet import (
    RoundTrip as RoundTrip,
    assert_deconv_round_trip as assert_deconv_round_trip,
)
from .checks.duplicates import assert_no_duplicate_filters as assert_no_duplicate_filters
from .checks.faithfulness import (
    Faithfulness as Faithfulness,
    assert_faithful as assert_faithful,
)
from .checks.finite import assert_finite as assert_finite
from .checks.gram import (
    GramInvariance as GramInvariance,
    GramResiduals as GramResiduals,
    assert_gram_invariant as assert_gram_invariant,
    assert_gram_symmetric as assert_gram_symmetric,
)
from .checks.invariance import (
    InvarianceShares as InvarianceShares,
    assert_invariant as assert_invariant,
)
from .checks.occlusion import (
    assert_occlusion_on_object as assert_occlusion_on_object,
    assert_occlusion_sensitive as assert_occlusion_sensitive,
)
from .checks.randomization import (
    RandomizationSensitivity as RandomizationSensitivity,
    assert_randomization_sensitive as assert_randomization_sensitive,
)
from .checks.repeatable import assert_repeatable as assert_repeatable
from .checks.saturation import assert_not_saturated as assert_not_saturated
from .checks.style import (
    assert_style_closer as assert_style_closer,
    assert_style_transfer_converges as assert_style_transfer_converges,
)
from .compare.retrained.churn import (
    Churn as Churn,
    ClassChange as ClassChange,
)
from .compare.retrained.hidden import LayerSimilarity as LayerSimilarity
from .compare.retrained.no_regression import assert_no_regression as assert_no_regression
from .compare.retrained.outputs import OutputChange as OutputChange
from .compare.retrained.retraining import Retraining as Retraining
from .compare.retrained.weights import LayerFinding as LayerFinding
from .compare.same import assert_same_behaviour as assert_same_behaviour
from .compare.sameness import (
    LayerSameness as LayerSameness,
    Sameness as Sameness,
)
from .engine.ascent.maximize import (
    AscentInterrupted as AscentInterrupted,
    Maximization as Maximization,
    maximize as maximize,
)
from .engine.ascent.objectives import Objective as Objective
from .engine.ascent.plan import AscentPlan as AscentPlan
from .engine.explain.deconvnet import (
    Reconstruction as Reconstruction,
    deconvolve as deconvolve,
    project as project,
)
from .engine.explain.faithfulness import (
    PixelCurve as PixelCurve,
    deletion_curve as deletion_curve,
    insertion_curve as insertion_curve,
)
from .engine.explain.invariance import (
    Invariance as Invariance,
    invariance as invariance,
)
from .engine.explain.occlusion import (
    Occlusion as Occlusion,
    occlude as occlude,
)
from .engine.explain.patches import (
    TopPatches as TopPatches,
    top_patches as top_patches,
)
from .engine.explain.randomization import (
    RandomizationCurve as RandomizationCurve,
    randomization_curve as randomization_curve,
)
from .engine.explain.topk import (
    TopImages as TopImages,
    TopInterrupted as TopInterrupted,
    top_images as top_images,
)
from .engine.features.activations import activations as activations
from .engine.features.filters import (
    FilterStatistics as FilterStatistics,
    filter_statistics as filter_statistics,
)
from .engine.features.gram import gram_matrix as gram_matrix
from .engine.model.loading import (
    ModelFileError as ModelFileError,
    load_model as load_model,
)
from .engine.model.network import Network as Network
from .engine.model.receptive_field import receptive_field as receptive_field
from .lens import Lens as Lens
from .pictures.photographs import read_image as read_image
from .style.sound import (
    Sound as Sound,
    read_sound as read_sound,
    save_sound as save_sound,
)
from .style.sound_transfer import (
    SoundInterrupted as SoundInterrupted,
    SoundTransfer as SoundTransfer,
    sound_network as sound_network,
    transfer_sound as transfer_sound,
)
from .style.task import (
    StyleInterrupted as StyleInterrupted,
    StyleTransfer as StyleTransfer,
)
from .style.transfer import transfer_style as transfer_style
