"""How well defaults predict tables, beside scikit-learn's."""
