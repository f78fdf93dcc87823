"""Where in its life a tensor was read: a number without a stage means nothing."""

from __future__ import annotations

import enum


class Stage(enum.Enum):
    """Where a reading was taken. Members stand in the order of life; `order` is that order as a number.

    A gradient goes raw → reduced → unscaled → clipped → update: data-parallel wrappers reduce inside the backward pass,
    when the loss is still scaled.
    """

    ACTIVATION = "activation"
    """What a module gave out in the forward pass."""
    ACTIVATION_GRADIENT = "activation_gradient"
    """The gradient of the loss with respect to that."""
    RAW = "raw"
    """``.grad`` of a parameter at the end of the backward pass: still scaled, not yet clipped."""
    REDUCED = "reduced"
    """The same under a data-parallel wrapper: summed or averaged over the ranks."""
    UNSCALED = "unscaled"
    """After the loss scale was divided out."""
    CLIPPED = "clipped"
    """What the optimizer was given."""
    UPDATE = "update"
    """What the optimizer added to the parameter."""
    WEIGHT = "weight"
    """The parameter itself, before the update."""

    @property
    def order(self) -> int:
        """Position in the order of life, from 0."""
        return list(Stage).index(self)
