"""What holds for every test: one thread, no deadline on a busy machine, and no silent skip where a browser must be."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported; subprocesses inherit it

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("graddoctor", deadline=None)
settings.load_profile("graddoctor")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.skipped and item.get_closest_marker("browser") and os.environ.get("GRADDOCTOR_BROWSER") == "required":
        report.outcome, report.longrepr = "failed", f"GRADDOCTOR_BROWSER=required, but: {report.longrepr}"
    return report
