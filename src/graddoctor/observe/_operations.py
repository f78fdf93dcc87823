"""What the nodes of an autograd graph are called, and what sort of thing each is."""

from __future__ import annotations

import re
from functools import cache

WEIGHT = "weight"
ACTIVATION = "activation"
NORMALIZATION = "normalization"
POOL = "pool"
VIEW = "view"
OTHER = "other"

# Words for autograd's names where lower-casing is not enough. Left: the name in snake case, without "_backward".
_WORDS = {
    "addmm": "linear",
    "mm": "linear",
    "addmv": "linear",
    "mv": "linear",
    "bmm": "matmul",
    "baddbmm": "matmul",
    "dot": "matmul",
    "mkldnn_convolution": "convolution",
    "cudnn_convolution": "convolution",
    "convolution_overrideable": "convolution",
    "slow_conv_dilated2d": "convolution",
    "native_batch_norm": "batch_norm",
    "cudnn_batch_norm": "batch_norm",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "fused_rms_norm": "rms_norm",
    "prelu_kernel": "prelu",
    "rrelu_with_noise": "rrelu",
    "log_sigmoid": "logsigmoid",
    "log_sigmoid_forward": "logsigmoid",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
    "scaled_dot_product_flash_attention_for_cpu": "attention",
    "scaled_dot_product_flash_attention": "attention",
    "scaled_dot_product_efficient_attention": "attention",
    "scaled_dot_product_cudnn_attention": "attention",
    "scaled_dot_product_fused_attention_overrideable": "attention",
    "safe_softmax": "softmax",
    "unsafe_view": "view",
    "reshape_alias": "view",
    "to_copy": "cast",
    "convert_element_type": "cast",
    "native_dropout": "dropout",
    "mkldnn_rnn_layer": "rnn",
    "checkpoint_function": "checkpoint",
    "nll_loss_forward": "nll_loss",
    "nll_loss2d_forward": "nll_loss2d",
}

_WEIGHTS = {"linear", "matmul", "convolution", "embedding", "embedding_bag", "rnn", "checkpoint", "bilinear"}
_ACTIVATIONS = {
    "relu", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus", "softsign", "sigmoid", "tanh",
    "hardtanh", "relu6", "hardsigmoid", "hardswish", "exp", "softmax", "log_softmax", "prelu", "rrelu", "logsigmoid",
    "threshold", "clamp", "clamp_min", "clamp_max", "glu", "sin", "hardshrink", "softshrink",
}  # fmt: skip
_NORMS = {"batch_norm", "layer_norm", "group_norm", "rms_norm", "instance_norm"}
_VIEWS = {
    "view", "t", "transpose", "permute", "unsqueeze", "squeeze", "alias", "detach", "clone", "cast", "reshape",
    "swapaxes", "flatten", "movedim", "as_strided", "view_as", "contiguous", "lift_fresh", "numpy_t",
}  # fmt: skip
_PURE_LOSSES = {
    "nll_loss", "nll_loss2d", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "kl_div",
    "binary_cross_entropy_with_logits", "soft_margin_loss", "multi_margin_loss", "multilabel_margin_loss",
}  # fmt: skip


@cache
def kind_of(name: str) -> str:
    """Short word for a node or an operator: ``"AddmmBackward0"`` and ``"addmm"`` are both ``"linear"``."""
    word = name.rsplit(":", 1)[-1]
    word = re.sub(r"Backward\d*$", "", word)
    word = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word).lower().strip("_")
    word = re.sub(r"(?<=\d)_d", "d", word).replace("dwith", "d_with")
    return _WORDS.get(word, word)


@cache
def sort_of(kind: str) -> str:
    """``"weight"``, ``"activation"``, ``"normalization"``, ``"pool"``, ``"view"`` or ``"other"``."""
    if kind in _WEIGHTS:
        return WEIGHT
    if kind in _ACTIVATIONS:
        return ACTIVATION
    if kind in _NORMS:
        return NORMALIZATION
    if kind in _VIEWS:
        return VIEW
    return POOL if "pool" in kind or kind == "mean" else OTHER


def activations() -> frozenset[str]:
    """Every kind that is a nonlinearity."""
    return frozenset(_ACTIVATIONS)


def is_loss(kind: str) -> bool:
    """Whether an operation exists only in losses."""
    return kind in _PURE_LOSSES
