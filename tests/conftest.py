"""What holds for every test: one thread, the same draws, no deadline, Ctrl-C, no silent skip without a browser."""

import os
import random
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported; subprocesses inherit it

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background, where programs inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("graddoctor", deadline=None)
settings.load_profile("graddoctor")


def seeded():
    """Begin every file and every test with the same draws, whichever ran before it in this process."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_make_collect_report():
    seeded()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    seeded()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.skipped and item.get_closest_marker("browser") and os.environ.get("GRADDOCTOR_BROWSER") == "required":
        report.outcome, report.longrepr = "failed", f"GRADDOCTOR_BROWSER=required, but: {report.longrepr}"
    return report
