"""Shared by tests and benchmarks: the app as a process on topics and indices of its own, records, least squares."""
