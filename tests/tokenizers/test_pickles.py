"""The reader of pickles: what would do more than build arrays, or claims more than there is, is refused in words."""

from __future__ import annotations

import io
import pickle
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans

from vocable.errors import ArtifactError
from vocable.tokenizers.pickles import read_pickle

CENTERS = np.random.RandomState(0).standard_normal((5, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pickle.dumps(np.array([{}, 1], dtype=object)), "numbers"),
        (pickle.dumps(np.array(["a"])), "numbers"),
        (pickle.dumps(np.zeros(2, dtype=[("a", "f4")])), "numbers"),
        (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\nI0\nI1\ntRS'x'\ntR.", "numbers"),
        (pickle.dumps({1, 2}), "EMPTY_SET"),
        (pickle.dumps(complex(1, 2)), "builtins.complex"),
        (b"\x80\x04\x95" + bytes(8) + b"\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.", "os.system"),
        (b"(S'touch ran'\nios\nsystem\n.", "INST"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02}((((tttI1\ns.", "damaged"),
        (b"\x80\x02" + b"]" * 200_000 + b".", "steps"),
        (b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.", "damaged"),
        (b"\x80\x02U\xff.", "damaged"),
        (b"\x80\x02R.", "damaged"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02K\x01K\x02b.", "damaged"),
        (b"\x80\x02h\x07.", "damaged"),
        (b"\x80\x02", "damaged"),
        (b"\x80", "damaged"),
        (b"cjoblib.numpy_pickle\nNDArrayWrapper\n.", "files of their own"),
    ],
)
def test_pickles_of_anything_else(data: bytes, words: str) -> None:
    with pytest.raises(ArtifactError, match=words):
        read_pickle(data)


def _wrapped(**changes: Any) -> bytes:
    """A joblib dump whose array claims to be another."""
    stream = io.BytesIO()
    wrapper = joblib.numpy_pickle.NumpyArrayWrapper(np.ndarray, (5, 3), "C", np.dtype("f4"))
    wrapper.__dict__.update(changes)
    pickle.dump(wrapper, stream)
    return stream.getvalue()[:-1] + b"\x01\xff" + CENTERS.tobytes() + b"."


def test_an_array_may_not_claim_more_than_there_is() -> None:
    np.testing.assert_array_equal(read_pickle(_wrapped()), CENTERS)
    shapes: list[Any] = [(2**40, 3), (2**62, 2**62), (-5, -3), (5, 4), (5.0, 3), (1,) * 60, "ab", None]
    for shape in shapes:
        with pytest.raises(ArtifactError):
            read_pickle(_wrapped(shape=shape))
    with pytest.raises(ArtifactError, match="numbers"):
        read_pickle(_wrapped(dtype=np.dtype("O")))


def test_every_cut_is_noticed() -> None:
    points = np.random.RandomState(1).standard_normal((60, 8))
    model = MiniBatchKMeans(5, n_init=1, random_state=np.random.RandomState(3)).fit(points)
    stream = io.BytesIO()
    joblib.dump(model, stream)
    data = stream.getvalue()
    assert read_pickle(data).is_kmeans
    for end in range(0, len(data), 7):
        with pytest.raises(ArtifactError):
            read_pickle(data[:end])
