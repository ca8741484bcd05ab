"""Solvers of categorical processes: one family a file; `kernels` holds the role and the loop that they share."""
