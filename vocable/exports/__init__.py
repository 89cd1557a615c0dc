"""Token stores in the formats of other tools, and back."""

from vocable.exports.imports import import_tokens
from vocable.exports.packed import PackedTokens
from vocable.exports.rows import LAYOUTS, stream_of
from vocable.exports.run import FORMATS, export

__all__ = ["FORMATS", "LAYOUTS", "PackedTokens", "export", "import_tokens", "stream_of"]
