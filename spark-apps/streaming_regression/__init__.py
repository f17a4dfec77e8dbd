"""An online linear regression over Kafka topics, in Spark; run `python -m streaming_regression`."""
