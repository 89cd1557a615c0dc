"""Systems compared on a corpus: what they cost, how they sound, what their tokens are worth; and which to choose."""

from __future__ import annotations
