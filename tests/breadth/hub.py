"""Backbones of keras_hub, small and with random weights: ``pip install 'pytest-convlens[hub]'``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def resnet(*, pre: bool = False, kind: str = "basic_block") -> Any:
    import keras_hub

    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 2],
        stackwise_num_strides=[1, 2],
        block_type=kind,
        use_pre_activation=pre,
        image_shape=(32, 32, 3),
    )


def efficientnet() -> Any:
    import keras_hub

    return keras_hub.models.EfficientNetBackbone(
        stackwise_kernel_sizes=[3, 3, 5],
        stackwise_num_repeats=[1, 2, 1],
        stackwise_input_filters=[8, 8, 16],
        stackwise_output_filters=[8, 16, 16],
        stackwise_expansion_ratios=[1, 4, 4],
        stackwise_squeeze_and_excite_ratios=[0.0, 0.25, 0.25],
        stackwise_strides=[1, 2, 2],
        stackwise_block_types=["fused", "unfused", "unfused"],
        stackwise_force_input_filters=[0, 0, 0],
        stackwise_nores_option=[False, False, False],
        stackwise_width_coefficients=[1.0] * 3,
        stackwise_depth_coefficients=[1.0] * 3,
        num_features=32,
        input_shape=(32, 32, 3),
    )


def mobilenet() -> Any:
    import keras_hub

    return keras_hub.models.MobileNetBackbone(
        stackwise_expansion=[[16], [24, 24]],
        stackwise_num_blocks=[1, 2],
        stackwise_num_filters=[[8], [16, 16]],
        stackwise_kernel_size=[[3], [5, 5]],
        stackwise_num_strides=[[2], [2, 1]],
        stackwise_se_ratio=[[None], [0.25, 0.25]],
        stackwise_activation=[["relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1], [2, 2]],
        output_num_filters=32,
        depthwise_filters=8,
        depthwise_stride=1,
        depthwise_residual=True,
        last_layer_filter=32,
        squeeze_and_excite=0.5,
        input_num_filters=8,
        image_shape=(32, 32, 3),
    )


def csp_dark_net() -> Any:
    import keras_hub

    return keras_hub.models.CSPNetBackbone(
        stem_filters=8,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2],
        stackwise_strides=[2, 2],
        stackwise_num_filters=[8, 16],
        block_type="dark_block",
        stage_type="dark",
        image_shape=(32, 32, 3),
    )


def mit() -> Any:
    import keras_hub

    return keras_hub.models.MiTBackbone(
        layerwise_depths=[1, 1],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        hidden_dims=[8, 16],
        image_shape=(32, 32, 3),
    )


def deep_lab() -> Any:
    import keras_hub

    return keras_hub.models.DeepLabV3Backbone(
        image_encoder=resnet(),
        spatial_pyramid_pooling_key="P3",
        upsampling_size=2,
        dilation_rates=[2, 3],
        low_level_feature_key="P2",
        projection_filters=8,
        image_shape=(32, 32, 3),
    )


def segformer() -> Any:
    import keras_hub

    return keras_hub.models.SegFormerBackbone(image_encoder=mit(), projection_filters=8)


def vgg() -> Any:
    import keras_hub

    return keras_hub.models.VGGBackbone(
        stackwise_num_repeats=[1, 2], stackwise_num_filters=[8, 16], image_shape=(32, 32, 3)
    )


def xception() -> Any:
    import keras_hub

    return keras_hub.models.XceptionBackbone(
        stackwise_conv_filters=[[8, 8], [16, 16], [16, 16, 16]],
        stackwise_pooling=[False, True, False],
        image_shape=(32, 32, 3),
    )


def densenet() -> Any:
    import keras_hub

    return keras_hub.models.DenseNetBackbone(
        stackwise_num_repeats=[2, 2], growth_rate=8, image_shape=(32, 32, 3)
    )


def hgnet() -> Any:
    import keras_hub

    return keras_hub.models.HGNetV2Backbone(
        depths=[1, 1],
        embedding_size=8,
        hidden_sizes=[16, 24],
        stem_channels=[3, 8, 8],
        hidden_act="relu",
        use_learnable_affine_block=True,
        stackwise_stage_filters=[(8, 8, 16, 1, 2, 3), (16, 8, 24, 1, 2, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, True],
        image_shape=(32, 32, 3),
    )


def vit() -> Any:
    import keras_hub

    return keras_hub.models.ViTBackbone(
        image_shape=(32, 32, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    )


def swin() -> Any:
    import keras_hub

    return keras_hub.models.SwinTransformerBackbone(
        image_shape=(32, 32, 3), embed_dim=8, depths=(2, 2), num_heads=(1, 2), window_size=4
    )


def retinanet() -> Any:
    import keras_hub

    return keras_hub.models.RetinaNetBackbone(
        image_encoder=resnet(), min_level=2, max_level=4, use_p5=False, image_shape=(32, 32, 3)
    )


def classifier() -> Any:
    """Return a task of keras_hub: a backbone, a pool and a dense layer, subclassed."""
    import keras_hub

    return keras_hub.models.ImageClassifier(backbone=resnet(), num_classes=3)


NETWORKS: dict[str, Callable[[], Any]] = {
    "keras_hub ResNet": resnet,
    "keras_hub ResNetV2, bottlenecks": lambda: resnet(pre=True, kind="bottleneck_block"),
    "keras_hub EfficientNet": efficientnet,
    "keras_hub MobileNet": mobilenet,
    "keras_hub CSPDarkNet": csp_dark_net,
    "keras_hub MiT": mit,
    "keras_hub DeepLabV3": deep_lab,
    "keras_hub SegFormer": segformer,
    "keras_hub VGG": vgg,
    "keras_hub Xception": xception,
    "keras_hub DenseNet": densenet,
    "keras_hub HGNetV2": hgnet,
    "keras_hub ViT": vit,
    "keras_hub Swin": swin,
    "keras_hub RetinaNet": retinanet,
    "keras_hub ImageClassifier": classifier,
}
