"""Limits of threads hold inside their blocks and nowhere else."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from kanlens import resources
from kanlens.resources import FEW, one_thread, one_thread_of, processor_share, threads_for


def blas_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_matrix_products_of_numpy_have_one_thread_inside_and_as_many_as_before_after():
    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        with one_thread_of("blas"):
            assert blas_threads() == {1}
        assert blas_threads() == before


def test_torch_has_one_thread_inside_and_as_many_as_before_after():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        with threads_for(FEW):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_share_of_a_processor_is_measured_by_work(monkeypatch):
    now = [0.0]

    def passing():
        now[0] += 0.01
        return now[0]

    monkeypatch.setattr(resources.time, "perf_counter", passing)
    monkeypatch.setattr(resources.time, "thread_time", lambda: 0.25 * now[0])
    assert processor_share() == pytest.approx(0.25, abs=0.05)
    monkeypatch.setattr(resources.time, "thread_time", lambda: 2.0 * now[0])  # coarse clocks
    assert processor_share() == 1.0
