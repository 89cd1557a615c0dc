"""Recordings to compressed files and back, one or a folder of them; each is there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vocable.audio import AudioStream, write_blocks
from vocable.compression.container import Head, Reader, Writer, block_frames
from vocable.compression.sound import Sound, codes_of, kept_codebooks, sound_of
from vocable.corpus import Corpus, Failure
from vocable.errors import AudioError, InputError, VocableError
from vocable.files import inside, legible, publish
from vocable.nets.threads import one_thread_each
from vocable.progress import Progress, Watcher, unwatched
from vocable.tokenizers.folder import WindowTokenizer
from vocable.types import TokenSpec
from vocable.vocoders.folder import BlockVocoder

SUFFIX = ".voc"


@dataclass(frozen=True)
class Coding:
    """How codes are kept.

    codebooks: of a codec, the first so many; None for all. coder: the model of codes, a name in
    `vocable.compression.MODELS`. block_seconds: of a block; None for what makes about 2,000 bytes of raw codes.
    """

    codebooks: int | None = None
    coder: str = "adaptive"
    block_seconds: float | None = None


@dataclass
class Folder(Progress):
    """How far a folder is: `failures` of recordings, and the bytes of the compressed files."""

    num_bytes: int = 0
    failures: list[Failure] = field(default_factory=list)


def compress(
    sound: Sound, tokenizer: WindowTokenizer, sink: BinaryIO, coding: Coding | None = None, *, live: bool = False
) -> Writer:
    """Writes a recording as a compressed file, block by block; gives the writer, which knows bytes and frames.

    live: see `codes_of`. InputError for a coding that does not go with the tokenizer, AudioError for no sound.
    """
    coding = coding or Coding()
    which = kept_codebooks(tokenizer, coding.codebooks)
    spec = tokenizer.spec.take(which)
    writer = Writer(sink, Head(spec, sound.source_rate, block_frames(spec, coding.block_seconds), coding.coder))
    for codes in codes_of(tokenizer, sound, live=live):
        writer.write(codes[which])
    writer.finish(sound.source_samples)
    return writer


def compress_file(
    recording: str | os.PathLike[str], tokenizer: WindowTokenizer, out: Path, coding: Coding | None = None
) -> Writer:
    """Compresses a sound file of any rate and channels. AudioError if it cannot be read; see `compress`."""
    sound = AudioStream(recording, tokenizer.spec.sample_rate, tokenizer.channels)
    with new_file(out) as sink:
        return compress(sound, tokenizer, sink, coding)


def decompress_file(
    compressed: str | os.PathLike[str], decoder: BlockVocoder, out: Path, *, sample_rate: int | None = None
) -> Reader:
    """Writes the sound of a compressed file, in the format that the suffix of `out` names.

    At the rate of the recording, to the sample, unless `sample_rate` (Hz) is given. Gives the reader, at its end.
    AudioError for a damaged file, of which nothing is written; SpecError if the decoder does not take its codes.
    """
    with opened(compressed) as source:
        reader = Reader(source)
        blocks = sound_of(decoder, reader, sample_rate)
        write_blocks(out, blocks, sample_rate or reader.head.source_rate, decoder.channels)
        return reader


def compress_folder(
    corpus: Corpus,
    tokenizer: WindowTokenizer,
    out: Path,
    coding: Coding | None = None,
    *,
    watcher: Watcher = unwatched,
) -> Folder:
    """A compressed file for every recording, named after its id. Those that cannot be read are in `failures`."""
    kept_codebooks(tokenizer, (coding or Coding()).codebooks)
    jobs = [(u.id, u.path, inside(out, u.id, SUFFIX)) for u in corpus]

    def work(source: Path, target: Path) -> tuple[float, int]:
        writer = compress_file(source, tokenizer, target, coding)
        return writer.frames / writer.head.spec.frame_rate, writer.num_bytes

    return _each(jobs, work, watcher)


def decompress_folder(
    folder: Path,
    decoder: BlockVocoder,
    out: Path,
    *,
    sample_rate: int | None = None,
    suffix: str = ".wav",
    watcher: Watcher = unwatched,
) -> Folder:
    """A sound file for every compressed file below a folder. Those that are damaged are in `failures`.

    InputError if there is none.
    """
    found = compressed_files(folder)
    names = [legible(path.relative_to(folder).with_suffix("").as_posix()) for path in found]
    jobs = [(name, path, inside(out, name, suffix)) for name, path in zip(names, found, strict=True)]

    def work(source: Path, target: Path) -> tuple[float, int]:
        reader = decompress_file(source, decoder, target, sample_rate=sample_rate)
        return reader.source_samples / reader.head.source_rate, source.stat().st_size

    return _each(jobs, work, watcher)


def compressed_files(folder: Path) -> list[Path]:
    """All compressed files below a folder, in order. InputError if there is none."""
    found = sorted(path for path in folder.rglob("*" + SUFFIX) if path.is_file() and not path.name.startswith("."))
    if not found:
        raise InputError(f"no compressed file in {folder}", hint=f"looked for files that end in {SUFFIX}")
    return found


def first_spec(folder: Path) -> TokenSpec:
    """What the codes of a folder are, by its first file that says so. AudioError if none does."""
    problems = []
    for path in compressed_files(folder):
        try:
            with opened(path) as source:
                return Reader(source).head.spec
        except AudioError as problem:
            problems.append(problem)
    raise problems[0]


def _each(
    jobs: Sequence[tuple[str, Path, Path]], work: Callable[[Path, Path], tuple[float, int]], watcher: Watcher
) -> Folder:
    """Does all jobs, a recording a thread: the operations of one are too short to share."""
    progress = Folder(len(jobs))
    with one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
        under_way = {pool.submit(work, source, target): (name, source) for name, source, target in jobs}
        try:
            for finished in as_completed(under_way):
                name, source = under_way[finished]
                try:
                    seconds, num_bytes = finished.result()
                except VocableError as problem:
                    progress.failures.append(Failure(name, legible(str(source)), problem.message))
                    progress.failed += 1
                else:
                    progress.audio_seconds += seconds
                    progress.num_bytes += num_bytes
                    progress.done += 1
                watcher(progress)
        finally:
            pool.shutdown(cancel_futures=True)
    return progress


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name when the block ends without an error, in place of an old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(Path(name), path)
    finally:
        Path(name).unlink(missing_ok=True)


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """A compressed file to read. InputError if there is none."""
    if not Path(path).is_file():
        came = "a folder" if Path(path).is_dir() else "nothing"
        raise InputError(f"expected a compressed file, got {came} at {path}")
    return Path(path).open("rb")
