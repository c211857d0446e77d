"""Comparing the float model and the integer program on samples."""

from __future__ import annotations

import numpy as np
import pytest

from dnnc.accuracy import classes_of, compare, sqnr_db
from dnnc.errors import DataError
from dnnc.quantise.dataset import Dataset
from dnnc.simulate import simulate
from tiny import tiny_graph, tiny_inputs

pytestmark = pytest.mark.quick


def test_classes_lie_along_the_last_axis() -> None:
    output = np.array([[[0.0, 2.0, 1.0]], [[5.0, 2.0, 1.0]]])
    found = classes_of(output)
    assert found is not None and found.tolist() == [1, 0]
    found = classes_of(np.arange(24.0).reshape(2, 4, 3))
    assert found is not None and found.shape == (2, 4)
    assert classes_of(np.zeros((2, 1))) is None
    assert classes_of(np.zeros(2)) is None


def test_sqnr() -> None:
    assert sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == pytest.approx(20.0)
    assert sqnr_db(np.ones(3), np.ones(3)) is None
    assert sqnr_db(np.zeros(3), np.ones(3)) is None


def test_labels_need_one_answer_a_sample() -> None:
    graph, codes = tiny_graph(), tiny_inputs()
    samples = {"x": 0.5 * codes["x"]}
    found = compare(graph, graph, Dataset(samples), simulate(graph, codes))
    assert (found.samples, found.float_percent, found.integer_percent) == (5, None, None)
    assert found.agreement_percent is not None
    with pytest.raises(DataError, match="4 rows of classes"):
        compare(graph, graph, Dataset(samples, np.zeros(5, np.int64)), simulate(graph, codes))
