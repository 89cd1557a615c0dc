"""Recordings as small files: the codes of a tokenizer, entropy-coded, in blocks checked before they are heard."""

from vocable.compression.coding import BlockCoder
from vocable.compression.container import Head, Reader, Writer
from vocable.compression.files import (
    Coding,
    compress,
    compress_file,
    compress_folder,
    decompress_file,
    decompress_folder,
)
from vocable.compression.models import MODELS, Model
from vocable.compression.sound import codes_of, sound_of

__all__ = [
    "MODELS",
    "BlockCoder",
    "Coding",
    "Head",
    "Model",
    "Reader",
    "Writer",
    "codes_of",
    "compress",
    "compress_file",
    "compress_folder",
    "decompress_file",
    "decompress_folder",
    "sound_of",
]
