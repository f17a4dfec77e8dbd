"""Kafka: the connection, the admin client, the source of offset ranges, the consumer, and meanings of errors."""
