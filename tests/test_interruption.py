"""The first interrupt is kept, the second ends the work, and some blocks keep none."""

import re

import pytest

from kanlens.errors import InterruptedWarning
from kanlens.interruption import Interruption, interrupts_pass


def test_the_first_interrupt_is_kept_and_the_second_goes_through():
    stop = Interruption()
    with stop.kept():
        raise KeyboardInterrupt
    assert stop.happened
    with pytest.raises(KeyboardInterrupt), stop.kept():
        raise KeyboardInterrupt
    text = "symbolize: expected to come to an end, got an interrupt. What was found is returned."
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
