"""What every test runs under: few threads, and examples that are the same on every machine and every day."""

from __future__ import annotations

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


def pytest_configure() -> None:
    # Most tensors here are tiny, and workers share the cores: more threads would only wait for each other.
    torch.set_num_threads(1)
