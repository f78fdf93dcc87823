"""The rules of propagation, by the kind of operator."""

from __future__ import annotations

from graddoctor.theory.rules import attention, convolution, norms, pairs, pools, shapes, weights
from graddoctor.theory.rules.step import Rule

_VIEWS = (
    "view", "reshape", "unsqueeze", "squeeze", "alias", "detach", "clone", "cast", "flatten", "contiguous", "view_as",
    "lift_fresh", *shapes.MOVES,
)  # fmt: skip
_PARTS = (
    "select", "slice", "split", "split_with_sizes", "unbind", "chunk", "narrow", "index", "gather", "index_select",
)  # fmt: skip

RULES: dict[str, Rule] = {
    "linear": weights.dense,
    "matmul": weights.dense,
    "convolution": convolution.convolution,
    "layer_norm": norms.layer_norm,
    "rms_norm": norms.rms_norm,
    "group_norm": norms.group_norm,
    "batch_norm": norms.batch_norm,
    "softmax": attention.softmax,
    "safe_softmax": attention.softmax,
    "attention": attention.fused,
    "mean": pools.mean,
    "sum": pools.mean,
    "var": pools.spread,
    "std": pools.spread,
    "linalg_vector_norm": pools.spread,
    "avg_pool1d": pools.average_pool,
    "avg_pool2d": pools.average_pool,
    "avg_pool3d": pools.average_pool,
    "adaptive_avg_pool2d": pools.average_pool,
    "adaptive_avg_pool3d": pools.average_pool,
    "max_pool2d": pools.max_pool,
    "max_pool3d": pools.max_pool,
    "dropout": pairs.dropout,
    "masked_fill": pairs.masked_fill,
    "where": pairs.where,
    "expand": shapes.copies,
    "repeat": shapes.copies,
    "constant_pad_nd": shapes.pad,
    "cat": shapes.join,
    "stack": shapes.join,
    "write copy_.default": shapes.write,
    **dict.fromkeys(_VIEWS, shapes.view),
    **dict.fromkeys(_PARTS, shapes.part),
}
"""Those that hold whatever the operands are."""

PAIRS: dict[str, Rule] = {
    "add": pairs.add,
    "sub": pairs.add,
    "rsub": pairs.add,
    "mul": pairs.multiply,
    "div": pairs.multiply,
}
"""Those of two operands that are no functions of the same tensor."""
