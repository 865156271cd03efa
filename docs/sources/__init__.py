"""What pages take from the package and from figures/data, so that nothing is typed twice."""
