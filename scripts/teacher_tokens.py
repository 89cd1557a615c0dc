"""Tokens of a corpus by a teacher that sees 30 s at a time, for `vocable train encoder --tokens`.

Whisper pads every utterance to 30 s, and its frame t is centred at 20 t ms, where frame t of other tokenizers lasts
from 20 t to 20 (t + 1). So utterances are laid one after another, silence between them, until the 30 s are full, each
so that its middles of frames lie where the teacher has its centres. That is some five times as fast as one utterance
at a time, and its codes are those of the right moment. They are made for learning from: they are not the codes that
`vocable tokenize` gives.

    python scripts/teacher_tokens.py speech/ --tokenizer teacher/ --out tokens/
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from vocable.clock import Windows
from vocable.corpus import Corpus, Failure, Piece
from vocable.store import Entry, TokenStore
from vocable.tokenizers import UnitTokenizer

_SECONDS = 30  # that the teacher sees
_SILENCE = 0.5  # seconds after each utterance, at least


def packs(pieces: Iterator[Piece | Failure], longest: int, hop: int, rate: int) -> Iterator[list[tuple[Piece, int]]]:
    """Utterances and the frames at which they begin, in groups that fill `longest` samples."""
    pack: list[tuple[Piece, int]] = []
    frame = 1
    for piece in pieces:
        if isinstance(piece, Failure) or piece.facts is None or piece.index:
            print(f"left out, unreadable or too long: {piece}", file=sys.stderr)
            continue
        taken = -(-(len(piece.samples) + int(_SILENCE * rate)) // hop)
        if pack and (frame + taken) * hop > longest:
            yield pack
            pack, frame = [], 1
        pack.append((piece, frame))
        frame += taken
    if pack:
        yield pack


def entries(tokenizer: UnitTokenizer, pack: list[tuple[Piece, int]]) -> Iterator[Entry]:
    """The tokens of a group; sample hop / 2 of an utterance lies at the start of its first frame."""
    spec, hop = tokenizer.spec, tokenizer.spec.hop_length
    last, begin = pack[-1]
    heard = np.zeros(begin * hop + len(last.samples), np.float32)
    for piece, frame in pack:
        start = frame * hop - hop // 2
        heard[start : start + len(piece.samples)] = piece.samples[:, 0] if piece.samples.ndim == 2 else piece.samples
    codes = tokenizer.encode_windows([torch.from_numpy(heard)])[0].numpy()
    for piece, frame in pack:
        facts, utterance = piece.facts, piece.utterance
        if facts is None:
            continue
        kept = codes[:, frame : frame + spec.num_frames(facts.samples)]
        kept = np.pad(kept, [(0, 0), (0, spec.num_frames(facts.samples) - kept.shape[1])], mode="edge")
        yield Entry(
            id=utterance.id,
            codes=kept,
            samples=facts.samples,
            path=str(utterance.path),
            source_samples=facts.source_samples,
            source_rate=facts.source_rate,
            checksum=facts.checksum,
            fields=utterance.fields,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="+")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    tokenizer = UnitTokenizer.from_pretrained(options.tokenizer)
    store = TokenStore.create(options.out, tokenizer.spec)
    corpus = Corpus.of(*options.corpus)
    todo = corpus.without(set(store.ids()))
    done: list[Entry] = []
    rate, hop = tokenizer.spec.sample_rate, tokenizer.spec.hop_length
    pieces = todo.pieces(rate, Windows(_SECONDS * rate // hop, 0, hop), workers=1)
    count = len(corpus) - len(todo)
    for pack in packs(pieces, _SECONDS * rate, hop, rate):
        done.extend(entries(tokenizer, pack))
        count += len(pack)
        if len(done) >= 256:
            store.append(done)
            done = []
            print(f"{count:,} of {len(corpus):,}", file=sys.stderr)
    store.append(done)


if __name__ == "__main__":
    main()
