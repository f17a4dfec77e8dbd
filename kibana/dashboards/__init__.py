"""The dashboards: defined once in `panels`, shown by Kibana (`saved_objects`, `loader`) and by a live page (`page`)."""
