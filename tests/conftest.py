"""Settings of all tests."""

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)  # a busy machine must not fail a test
settings.load_profile("no-deadline")
