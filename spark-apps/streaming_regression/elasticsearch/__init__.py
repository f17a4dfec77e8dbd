"""Elasticsearch: connection, meaning of its errors, acknowledged bulk writes, indices, and one run per prefix."""
