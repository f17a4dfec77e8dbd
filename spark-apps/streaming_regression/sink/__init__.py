"""Elasticsearch: the connection, what errors mean, acknowledged bulk writes, indices, and one run per prefix."""
