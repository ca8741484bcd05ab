"""The one error that the applications raise for wrong input."""


class ConfigurationError(ValueError):
    """What was asked for cannot be configured; the message says what is wrong and what would be right."""
