import math

import pytest
import torch
from torch import nn

from graddoctor.observe import probe
from graddoctor.observe.epsilon import share_below


def test_entries_whose_gradient_is_under_epsilon_are_counted():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    model.register_parameter("unused", nn.Parameter(torch.zeros(100)))

    def loss(net, x):
        return (1e-6 * net[0](x)).mean() + net[1](x[:, :4]).mean()

    readings = probe(model, loss, [torch.randn(16, 8)]).parameters
    sizes = {r.name: r.gradient / math.prod(r.shape) ** 0.5 for r in readings if r.gradient}
    twin = sum(math.prod(r.shape) for r in readings if r.name in sizes and sizes[r.name] < 1e-4) / (36 + 10)
    assert share_below(readings, 1e-4) == twin == pytest.approx(36 / 46)
    assert (share_below(readings, 1e-20), share_below(readings, 1e3)) == (0, 1)
    assert math.isnan(share_below([r for r in readings if r.name == "unused"], 1e-8))
