"""Files: kanlens' own checkpoints, and models of other libraries."""
