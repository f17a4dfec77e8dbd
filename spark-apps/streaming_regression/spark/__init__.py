"""Spark: the session and the streaming query."""
