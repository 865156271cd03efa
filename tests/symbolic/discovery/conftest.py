"""One thread: the tables of these tests are small."""

import pytest

from kanlens.threads import one_thread


@pytest.fixture(autouse=True)
def single_thread():
    with one_thread():
        yield
