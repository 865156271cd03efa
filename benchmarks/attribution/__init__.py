"""Attribution methods against what is known exactly.

`writing` makes networks from the functions of their edges, `planted` says what is known of one,
and `cases` has them all: `classics` and `traps`, of `curves`. `truths` are computed from the
formulas alone, without any method of kanlens; `scoring` compares a method with them. `part` says
what a part of the benchmark is, `contest` is the part ``planted``, `trained` the one on tables,
`promises` measures what the package says of itself, and `running` lists the parts and runs them.
`pictures` draws their tables.
"""
