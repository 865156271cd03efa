"""Experiments on sparsity, initial weights and grids, each with an answer in plain words.

`experiment` says what an experiment is, `running` runs them all and resumes; `penalties`, `costs`,
`scaler`, `starts`, `digits` and `grids` are the experiments; `statistics`, `summaries` and
`pictures` read their tables.
"""
