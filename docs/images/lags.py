"""Draw ``through-time.png`` anew: the lag chart of a default LSTM and of one whose forget gates start open.

python docs/images/lags.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
import vl_convert
from torch import Tensor, nn

from graddoctor.observe import probe
from graddoctor.show.compose_time import through_time
from graddoctor.show.report import ThroughTime
from graddoctor.show.time_charts import lag_chart


def loss(model: nn.Module, x: Tensor) -> Tensor:
    """Only the last step counts."""
    value: Tensor = model(x)[0][-1].square().sum()
    return value


def look(name: str, forget: float | None) -> ThroughTime:
    """Look at an LSTM under a name."""
    torch.manual_seed(0)
    model = nn.LSTM(8, 64)
    if forget is not None:
        with torch.no_grad():
            model.bias_ih_l0[64:128], model.bias_hh_l0[64:128] = forget, 0
    seen = probe(model, loss, [torch.randn(100, 16, 8)], through_time=True)
    return replace(next(iter(through_time([seen]))), name=name)


def main() -> None:
    """Look at both and draw them."""
    chart = lag_chart([look("LSTM, default", None), look("LSTM, forget bias 3", 3.0)]).properties(width=620)
    Path(__file__).with_name("through-time.png").write_bytes(vl_convert.vegalite_to_png(chart.to_json()))


if __name__ == "__main__":
    main()
