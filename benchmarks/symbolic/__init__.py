"""How fast and how right edges are named, and what becomes of known equations."""
