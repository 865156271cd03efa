"""Limits of threads hold inside their blocks and nowhere else."""

from concurrent.futures import ThreadPoolExecutor

import torch

from kanlens.resources import FEW, one_thread, threads_for


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


def test_torch_keeps_its_threads_on_another_thread_that_begins_in_the_block():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread(), ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)
