"""The dashboards, defined once in `panels`; Kibana (`saved_objects`, `loader`) and a live page (`page`) show them."""
