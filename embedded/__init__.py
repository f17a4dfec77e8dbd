"""Real Kafka and Elasticsearch on one machine: for `make demo`, tests and benchmarks."""

from embedded.elasticsearch import Elasticsearch
from embedded.errors import ConfigError, EmbeddedError, ServerUnavailable
from embedded.jars import fetch
from embedded.kafka import Kafka, Tls
from embedded.server import free_port, start_together

__all__ = [
    "ConfigError",
    "Elasticsearch",
    "EmbeddedError",
    "Kafka",
    "ServerUnavailable",
    "Tls",
    "fetch",
    "free_port",
    "start_together",
]
