"""Attribution methods against what is known exactly."""
