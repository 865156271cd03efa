"""How well networks that can be read predict, beside boosted additive models."""
