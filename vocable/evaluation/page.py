"""The page of an evaluation: one self-contained HTML file on which to compare systems, and to hear them side by side.

All that comes from data travels as escaped JSON, and the page's script puts it on screen as text, never as markup.
"""

from __future__ import annotations

from base64 import b64encode
from importlib.resources import files
from pathlib import Path

from vocable.errors import InputError
from vocable.evaluation.page_data import page_data, ribbons, sounds_data
from vocable.evaluation.page_sounds import Clip, gather_sounds, ranked
from vocable.evaluation.results import Evaluation
from vocable.metrics.report import as_json, escape, fill, save_page
from vocable.progress import Watcher, unwatched

NAME = "index.html"
_SCRIPTS = ("base", "figures", "tables", "sound", "pictures", "listening", "blind", "main")
_RIBBONS = 0.08  # of the page, at most


def write_evaluation_page(
    evaluation: Evaluation,
    folder: Path,
    *,
    megabytes: float = 24.0,
    clips: int | None = None,
    watcher: Watcher = unwatched,
) -> Path:
    """Writes index.html into the folder that the evaluation was saved in; it opens from disk, without a network.

    megabytes: of the page, in millions of bytes. Players are FLAC if all fit, else Opus at the bitrate that fits, 64
        kbit/s at most; if 12 kbit/s are too much, fewer items have players: by turns the worst and one at random.
    clips: at most so many items have players; None for as many as fit.
    Sounds that cannot be read are named on the page. InputError if not even one item fits; OutputError if
    the folder cannot be written.
    """
    if clips is not None and clips < 0:
        raise InputError(f"expected 0 clips or more, got {clips}")
    order = ranked(evaluation)[:clips]
    page, data = _template(), page_data(evaluation)
    room = round(megabytes * 1e6)
    drawn = ribbons(evaluation, folder, order, round(_RIBBONS * room))
    taken = len(page) + len(as_json({"data": data, "ribbons": drawn})) + 200 * len(order) + 4000
    sounds = gather_sounds(evaluation, folder, order, room - taken, watcher)
    data["sounds"] = sounds_data(sounds, evaluation)
    kept = set(sounds.clips)
    data["ribbons"] = [
        {**ribbon, "codes": [entry for entry in ribbon["codes"] if entry[0] in kept]} for ribbon in drawn
    ]
    fields = {
        "TITLE": escape(evaluation.title),
        "DATA": as_json(data),
        "SOUNDS": "\n".join(_sound(index, clip) for index, clip in sounds.clips.items()),
    }
    save_page(folder / NAME, fill(page, fields))
    return folder / NAME


def _template() -> str:
    """The page with its style and script, and {{NAMES}} of what is to stand in it."""
    home = files("vocable.evaluation")
    script = "".join(home.joinpath(f"page_{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    return home.joinpath("evaluation.html").read_text(encoding="utf-8").replace("{{SCRIPT}}", script)


def _sound(index: int, clip: Clip) -> str:
    """The players of one item: base64, one after the other, "-" where there is none. Read when it is listened to."""
    packed = " ".join(b64encode(sound).decode() if sound else "-" for sound in clip.sounds)
    return f'<script type="text/plain" id="sounds-{index}">{packed}</script>'
