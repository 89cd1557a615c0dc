"""The errors a user can meet: each says what was expected and what came, and may carry a hint on what to do.

Every class is also a builtin, so that code which knows nothing of vocable catches what it expects to catch.
"""

from __future__ import annotations


class VocableError(Exception):
    """Base of all errors raised on purpose. `hint` is one sentence on what to do, or empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class InputError(VocableError, ValueError):
    """An argument or a value does not fit: a shape, a range, a name."""


class AudioError(VocableError, ValueError):
    """A recording cannot be used: unreadable, empty, truncated, or not made of finite numbers."""


class SpecError(VocableError, ValueError):
    """Tokens meet a tokenizer, a vocoder or a store that they were not made for."""


class ArtifactError(VocableError, OSError):
    """A saved model is missing, incomplete, damaged, or of another kind than was asked for."""


class StoreError(VocableError, OSError):
    """A token store is missing, damaged, or of another format than this version reads."""


class OutputError(VocableError, OSError):
    """The output cannot be written, or is there already and `overwrite` was not given."""


class MissingDependencyError(VocableError, ImportError):
    """An optional package is needed for what was asked and is not installed."""
