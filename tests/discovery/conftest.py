"""The time of the process, and the clock that tests move, of the tests of formulas."""

from tests.symbolic.conftest import clock, time_of_the_process

__all__ = ["clock", "time_of_the_process"]
