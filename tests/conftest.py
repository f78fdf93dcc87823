"""What holds for every test: one thread, no deadline on a busy machine, one Ray, no silent skip without a browser."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported; subprocesses inherit it

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("graddoctor", deadline=None)
settings.load_profile("graddoctor")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep a file in one process, where what its tests share is built once, and all that start Ray in another."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if item.get_closest_marker("ray") else item.path.stem))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.skipped and item.get_closest_marker("browser") and os.environ.get("GRADDOCTOR_BROWSER") == "required":
        report.outcome, report.longrepr = "failed", f"GRADDOCTOR_BROWSER=required, but: {report.longrepr}"
    return report
