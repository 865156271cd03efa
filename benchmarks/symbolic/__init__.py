"""How fast and how right edges are named, and what becomes of known equations.

`part` says what a part of the benchmark is, and `running` lists and runs them. Parts are `speed`,
`identification`, `known`, `recovery` and `peers`. `edges` makes edges whose function is known,
`suites` and `recovery_equations` have equations and their data, `judging` says what became of a
formula; `peer_methods` has other tools, each run in a `peer_process`.
"""
