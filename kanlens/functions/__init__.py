"""Elementary functions of edges."""
