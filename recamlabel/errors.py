"""Every error that a user can cause, as one small family.

The command line prints ``str(error)`` and exits with ``error.exit_code``; nothing here
ever reaches a user as a traceback. A message says what was found, what was expected and
what to do about it.
"""

from __future__ import annotations


def in_short(error: Exception) -> str:
    """Kind and text of an error, for a message. (The ``repr`` of one of decoding has all that was to be decoded.)

    Example:
        >>> in_short(KeyError("images"))
        "KeyError: 'images'"
    """
    return f"{type(error).__name__}: {error}"[:200]


class RecamlabelError(Exception):
    """Base of all errors that are the user's to fix.

    Example:
        >>> try:
        ...     raise DatasetError("labels.csv, row 3: no image 'a.jpg'")
        ... except RecamlabelError as error:
        ...     print(error)
        labels.csv, row 3: no image 'a.jpg'
    """

    exit_code = 1


class DatasetError(RecamlabelError):
    """The labels or images on disk cannot be used as they are."""


class ConfigError(RecamlabelError):
    """A setting is unknown, out of range, or does not go with another one."""

    exit_code = 2


class WeightsError(RecamlabelError):
    """Weights cannot be found, read, or do not fit the network."""


class StoreError(RecamlabelError):
    """A run folder or one of its files cannot be used as asked."""


class MissingExtraError(RecamlabelError):
    """An optional package is needed and not installed; the message names the install line."""
