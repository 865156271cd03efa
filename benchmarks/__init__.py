"""Benchmarks: ``python -m benchmarks``. Each prints a table, writes CSV, and can be resumed.

`campaign`, `machine`, `packages`, `records`, `rounds`, `peak` and `processes` serve all of them;
each benchmark is a folder of its own.
"""
