"""Benchmarks: ``python -m benchmarks``. Each prints tables, writes CSV, and can be resumed.

`harness` runs the experiments of all of them; each benchmark is a folder of its own, whose
`experiments` lists what it asks.
"""
