"""`make demo`: the whole system on this machine, on embedded Kafka and Elasticsearch, shown in the terminal."""
