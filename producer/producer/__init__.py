"""Sends records to the topics train and test; see `python -m producer --help`."""
