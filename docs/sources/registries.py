"""Tables of the registries: attribution methods, libraries that are recognized, functions."""

from __future__ import annotations

import kanlens
from kanlens.functions._catalog import FUNCTIONS
from kanlens.io.importers import IMPORTERS
from sources.writing import table


def registry_tables() -> dict[str, str]:
    """Return the tables of methods by scope, of importers and of elementary functions."""
    functions = [[f"`{f.name}`", f.complexity, f.domain] for f in FUNCTIONS.values()]
    layouts = [[one.library, ", ".join(one.marks.split()[:2])] for one in IMPORTERS]
    return {
        **{f"methods_{scope}": methods_of(scope) for scope in ("local", "global")},
        "importers": table(["library", "recognized by"], layouts),
        "functions": table(["function", "complexity", "domain"], functions),
        "functions_count": str(len(functions)),
    }


def methods_of(scope: str) -> str:
    """Write the table of the methods of one scope."""
    yes = {True: "yes", False: ""}
    rows = [
        [f"`{m.name}`", m.summary, yes[m.exact], yes[m.complete], yes[m.needs_background]]
        for m in kanlens.METHODS.values()
        if m.scope == scope
    ]
    return table(["method", "what it is", "exact", "adds up", "needs background"], rows)
