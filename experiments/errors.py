"""The one error that the applications raise for wrong input."""

from __future__ import annotations

from framework.errors import UserError


class ConfigurationError(UserError):
    """What was asked for cannot be configured; the message says what is wrong and what would be right."""
