"""The graph of the other model: where a layer's counterpart can be."""

from __future__ import annotations

import pytest

from convlens import assert_same_behaviour
from convlens.compare.sources import open_source
from convlens.compare.structure import Structure
from convlens.fixtures._tflite_file import TFLiteFile
from convlens.fixtures.artefacts import artefact_places, plant_in_artefact

# image → a → copy → b, c; b, c → sum → end
SOURCES = {
    "a": ("image",),
    "copy": ("a",),
    "b": ("copy",),
    "c": ("copy",),
    "sum": ("b", "c"),
    "end": ("sum",),
}


def structure(sources=None):
    return Structure(sources or SOURCES, lambda name, source: (name, source) == ("copy", "a"))


@pytest.mark.parametrize(
    ("known", "origins"),
    [
        ((), set()),
        (("a",), {"a"}),
        (("copy",), {"a"}),
        (("a", "b"), {"a", "b"}),
        (("a", "b", "c"), {"b", "c"}),
        (("a", "sum"), {"sum"}),
        (("image", "end"), {"end"}),
    ],
)
def test_a_tensor_is_computed_from_the_nearest_known_ones(known, origins):
    assert structure().view(known).origins("end") == origins


def test_the_tensors_on_the_way():
    assert structure().view(("a",)).between("end") == {"b", "c", "sum"}
    assert structure().view(("b",)).between("end") == {"c", "copy", "a", "image", "sum"}
    assert structure().view(("sum",)).between("end") == set()


def test_a_loop_of_a_graph_ends():
    looped = {"a": ("image", "c"), "b": ("a",), "c": ("b",)}
    assert structure(looped).view(("image",)).origins("c") == {"image"}
    assert structure(looped).view(()).between("c") == {"a", "b", "image"}


@pytest.fixture(scope="module")
def branches(images):
    """A network of branches with maps of one position, where int8 leaves little of the signal."""
    import keras
    from keras import layers

    def unit(x, name, units=12, size=1):
        x = layers.Conv2D(units, size, padding="same", use_bias=False, name=f"conv_{name}")(x)
        x = layers.BatchNormalization(name=f"bn_{name}", momentum=0.0)(x)
        return layers.ReLU(name=f"relu_{name}")(x)

    keras.utils.set_random_seed(11)
    image = keras.Input((16, 16, 3), name="image")
    x = layers.MaxPooling2D(16, name="one_position")(unit(image, "stem", 8, 3))
    for i in range(5):
        a = unit(x, f"{i}a")
        b = unit(unit(x, f"{i}b"), f"{i}c")
        x = layers.Concatenate(name=f"joined_{i}")([a, b, unit(x, f"{i}d")])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(5, name="classes")(x), name="branches")
    model(images, training=True)
    return model


@pytest.mark.slow
def test_in_int8_a_layer_with_little_signal_has_its_own_counterpart(branches, images, convert):
    found = assert_same_behaviour(convert(branches, images, "int8"), branches, images)
    assert min(layer.difference.snr for layer in found.layers) < 10
    groups = [layer.group for layer in found.layers]
    for name in (f"{i}{branch}" for i in range(5) for branch in "abcd"):
        assert (f"conv_{name}", f"bn_{name}", f"relu_{name}") in groups


@pytest.mark.slow
@pytest.mark.parametrize("defect", ["stale-weights", "permuted-outputs"])
def test_in_int8_a_fault_among_branches(branches, images, convert, tmp_path, defect):
    content = convert(branches, images, "int8").read_bytes()
    for place in artefact_places(content, defect)[-7:-1]:  # the layers of the last blocks
        path = tmp_path / "new.tflite"
        path.write_bytes(plant_in_artefact(content, defect, place))
        with pytest.raises(AssertionError) as error:
            assert_same_behaviour(path, branches, images)
        first = str(error.value).splitlines()[0]
        named = first.partition(" is '")[2].partition("'")[0].split(" + ")
        assert any(layer in place for layer in named if layer), f"{place}: {first}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_an_operation_that_reads_the_tensor_of_the_block_before(
    branches, images, convert, tmp_path, kind
):
    file = TFLiteFile(convert(branches, images, kind).read_bytes())
    makers = {}
    for op in file.graph.operators:
        name = str(file.graph.tensors[op.outputs[0]].name)
        makers.update({unit: op for unit in ("2d", "3d") if f"/relu_{unit}" in name})
    before, own = (int(makers[unit].inputs[0]) for unit in ("2d", "3d"))
    assert before != own
    makers["3d"].inputs = [before, *map(int, makers["3d"].inputs[1:])]
    path = tmp_path / "new.tflite"
    path.write_bytes(file.packed())
    with pytest.raises(AssertionError, match="that diverges from branches is 'conv_3d"):
        assert_same_behaviour(path, branches, images)


@pytest.mark.slow
def test_each_runtime_tells_its_graph(branches, images, convert, tmp_path):
    branches.export(tmp_path / "saved", verbose=False)
    for new in (convert(branches, images, "float32"), tmp_path / "saved", branches):
        opened = open_source(new, allow_legacy=True)
        names = opened.tensors(images[:1]).keys()
        view = Structure(opened.sources, lambda name, source: False).view(())
        assert all(view.between(name) for name in opened.output_names)
        later = [view.between(name) & names for name in names]
        assert max(map(len, later)) > 20


@pytest.fixture(scope="module")
def activated_twice(images):
    """A batch normalization that two ReLUs read: a converter makes one operation of all three."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(12)
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.BatchNormalization(name="stem_bn", momentum=0.0)(x)
    a, b = (layers.ReLU(name=f"relu_{name}")(x) for name in "ab")
    a = layers.Conv2D(6, 3, padding="same", name="conv_a")(a)
    b = layers.Conv2D(6, 3, padding="same", name="conv_b")(b)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Add(name="sum")([a, b]))
    model = keras.Model(image, layers.Dense(5, name="classes")(x), name="activated_twice")
    model(images, training=True)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_layer_that_is_fused_with_each_of_its_readers(activated_twice, images, convert, kind):
    found = assert_same_behaviour(convert(activated_twice, images, kind), activated_twice, images)
    (group,) = (layer.group for layer in found.layers if "stem" in layer.group)
    assert group[:2] == ("stem", "stem_bn")
    assert group[2] in ("relu_a", "relu_b")
    assert found.unmatched == ()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_fault_of_a_layer_that_is_fused_with_each_of_its_readers(
    activated_twice, images, convert, tmp_path, kind
):
    content = convert(activated_twice, images, kind).read_bytes()
    path = tmp_path / "new.tflite"
    place = next(x for x in artefact_places(content, "transposed-kernel") if "stem" in x)
    path.write_bytes(plant_in_artefact(content, "transposed-kernel", place))
    with pytest.raises(AssertionError, match="that diverges from activated_twice is 'stem"):
        assert_same_behaviour(path, activated_twice, images)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dynamic range", "int8"])
def test_equal_layers_that_a_converter_computes_once(images, convert, kind):
    import keras
    from keras import layers

    keras.utils.set_random_seed(13)
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(44, 3, 2, padding="same", use_bias=False, name="stem")(image)
    x = layers.MaxPooling2D(2, name="pool")(x)
    branches = []
    for name in "abc":
        y = layers.ReLU(name=f"relu_{name}")(x)
        y = layers.SeparableConv2D(44, 3, padding="same", use_bias=False, name=f"conv_{name}")(y)
        branches.append(layers.BatchNormalization(name=f"bn_{name}", momentum=0.0)(y))
    x = layers.Concatenate(name="joined")([*branches, layers.AveragePooling2D(1, name="other")(x)])
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    model = keras.Model(image, layers.Dense(5, name="classes")(x), name=f"equal_{kind[:3]}")
    model(images, training=True)
    found = assert_same_behaviour(convert(model, images, kind), model, images)
    tensors = {layer.layer: layer.tensor for layer in found.layers}
    assert tensors["relu_a"] == tensors["relu_b"] == tensors["relu_c"]
    assert found.unmatched == ()
