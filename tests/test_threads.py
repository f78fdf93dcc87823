"""Threads: as many as asked for inside a block, as many as before after it."""

import pytest
import torch

from graddoctor.threads import computing_with


@pytest.mark.parametrize("number", [1, 2, 3])
def test_as_many_as_asked_for(number):
    before = torch.get_num_threads()
    with computing_with(number):
        assert torch.get_num_threads() == number
        with computing_with(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == number
    assert torch.get_num_threads() == before


def test_put_back_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt), computing_with(before + 1):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == before
