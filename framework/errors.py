"""Errors that a person can mend: what was wrong, where, and what would be right.

Commands print their message and leave with exit code 2, without a traceback; in Python they are ValueErrors.
"""

from __future__ import annotations


class UserError(ValueError):
    """Something that was asked for cannot be done as it was asked."""


class DataError(UserError):
    """The data cannot be used as they are."""


class PromptError(UserError):
    """A prompt has no meaning to the model."""
