"""Packed tokens as a training sees them: blocks of one length, shuffled, shared out, resumed to the block."""

from vocable.reading.blocks import Blocks, TokenBlocks, Utterances, WholeUtterances
from vocable.reading.order import permuted
from vocable.reading.reader import BlockReader

__all__ = ["BlockReader", "Blocks", "TokenBlocks", "Utterances", "WholeUtterances", "permuted"]
