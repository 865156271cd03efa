"""Time and memory of one layer, kanlens against what else computes it."""
