"""The first interrupt is kept, the second ends the work, and some blocks keep none."""

import re
import signal
import threading

import pytest

from kanlens._runtime import Interruption, interrupts_pass, interrupts_wait
from kanlens.errors import InterruptedWarning


def test_the_first_interrupt_is_kept_and_the_second_goes_through():
    stop = Interruption()
    with stop.kept():
        raise KeyboardInterrupt
    assert stop.happened
    with pytest.raises(KeyboardInterrupt), stop.kept():
        raise KeyboardInterrupt
    text = "symbolize: interrupted. Results so far are returned."
    with pytest.warns(InterruptedWarning, match=f"^{re.escape(text)}$"):
        stop.warn("symbolize")


def test_nothing_is_said_without_an_interrupt():
    stop = Interruption()
    with stop.kept():
        pass
    stop.warn("symbolize")  # a warning would be an error here


def test_where_interrupts_pass_none_is_kept():
    stop = Interruption()
    with pytest.raises(KeyboardInterrupt), interrupts_pass(), stop.kept():
        raise KeyboardInterrupt
    assert not stop.happened
    with stop.kept(), interrupts_pass():  # the block around them may keep it
        raise KeyboardInterrupt
    assert stop.happened


@pytest.fixture
def interruptible():
    """Interrupts come, also where the tests were started with them ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_waits_for_the_end_of_a_block_that_must_be_whole():
    done, before = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts_wait():
        signal.raise_signal(signal.SIGINT)
        done.append("whole")
    assert done == ["whole"]
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(ValueError, match="own"), interrupts_wait():
        raise ValueError("own")
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_there_is_nothing_to_wait_for():
    done = []

    def work():
        with interrupts_wait():
            done.append("whole")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["whole"]
