"""Kafka: the connection, the administrator's view of the topics, the source of offset ranges, and their records."""
