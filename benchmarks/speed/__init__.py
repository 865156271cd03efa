"""Time and memory of one layer, kanlens against what else computes it.

`cells` says what is measured, `peers` who takes part, `reference` what is right; `timing`,
`memory` and `scaling` measure, `verdict` judges, `tables` and `picture` show, `running` does all.
"""
