"""Limits of threads hold inside their blocks and nowhere else."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kanlens._resources import ONE_THREAD_SIZE, one_thread, threads_for


def test_torch_has_one_thread_inside_and_as_many_as_before_after():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        with threads_for(ONE_THREAD_SIZE):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def mkl_threads():
    return re.search(r"mkl_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info())


def test_matrix_products_of_torch_have_one_thread_inside_and_as_many_as_before_after():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        if mkl_threads() is None:
            pytest.skip("torch was built without MKL")
        with one_thread(), ThreadPoolExecutor(1) as pool:
            with one_thread():
                assert mkl_threads()[1] == "1"
            assert mkl_threads()[1] == "1"
            assert pool.submit(mkl_threads).result()[1] == "2"
        assert mkl_threads()[1] == "2"
    finally:
        torch.set_num_threads(before)


def test_torch_keeps_its_threads_on_another_thread_that_begins_in_the_block():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread(), ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)
