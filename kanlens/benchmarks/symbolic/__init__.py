"""How fast and how right edges are named, and what becomes of known equations.

`part` says what a part of the benchmark is, `running` lists the parts, runs them and resumes;
`speed` and `identification` are parts, `edges` makes edges whose function is known.
"""
