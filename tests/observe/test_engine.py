"""What graddoctor takes from torch's private side is there and does what it is used for."""

from __future__ import annotations

import torch

from graddoctor.observe import engine


def test_in_backward_and_its_end():
    x = torch.ones(3, requires_grad=True)
    seen = []
    y = x * 2

    def hook(_gradient):
        seen.append(("inside", engine.in_backward(), x.grad is None))
        engine.at_end_of_backward(lambda: seen.append(("end", engine.in_backward(), x.grad.tolist())))

    y.register_hook(hook)
    assert not engine.in_backward()
    y.sum().backward()
    assert seen[0] == ("inside", True, True)
    assert seen[1][0] == "end"
    assert seen[1][2] == [2, 2, 2]
    assert len(seen) == 2
    assert not engine.in_backward()


def test_what_others_queue_meanwhile_runs_before():
    x = torch.ones(1, requires_grad=True)
    y = x * 2
    order = []

    def hook(_gradient):
        engine.at_end_of_backward(lambda: order.append("ours"))
        torch.autograd.Variable._execution_engine.queue_callback(lambda: order.append("theirs"))

    y.register_hook(hook)
    y.backward()
    assert order == ["theirs", "ours"]


def test_wrapped_tensors_are_told():
    seen = []

    def function(x):
        seen.append(engine.is_transformed(x))
        return x.sum()

    torch.func.grad(function)(torch.ones(2))
    assert seen == [True]
    assert not engine.is_transformed(torch.ones(2))
