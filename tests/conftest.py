"""What every test runs under: few threads, and examples that are the same on every machine and every day."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "dnnc",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("dnnc")


def pytest_configure(config: pytest.Config) -> None:
    # xdist gives every worker its share of the cores; more threads than that only fight each other.
    torch.set_num_threads(1 if hasattr(config, "workerinput") else 2)
