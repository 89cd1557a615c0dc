"""The command line: parses, calls one function, prints. Commands are imported only when they are asked for."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module

import click

import vocable
from vocable.errors import VocableError

_COMMANDS = {
    "tokenize": ("vocable.cli.tokenize", "Turn audio into a store of tokens."),
    "train": ("vocable.cli.train", "Train a tokenizer, a vocoder or a codec on a corpus."),
    "join": ("vocable.cli.join", "Make one tokenizer of several, with pitch if you like."),
    "resynthesize": ("vocable.cli.resynthesize", "Turn a store of tokens back into audio."),
    "continue": ("vocable.cli.continue_", "Go on where recordings stop, with a language model."),
    "compress": ("vocable.cli.compress", "Turn sound into small files: entropy-coded codes."),
    "decompress": ("vocable.cli.decompress", "Turn these back into sound."),
    "report": ("vocable.cli.report", "Say which layer to choose: a table and a page."),
    "evaluate": ("vocable.cli.evaluate", "Compare systems on a corpus: tables, and a page to hear them."),
    "probe": ("vocable.cli.probe", "Train small networks on tokens, and say what these still know."),
    "choose": ("vocable.cli.choose", "Try layers and numbers of units on a task, and say which to take."),
    "inspect": ("vocable.cli.inspect", "Say what an artifact, a token store or a sound file is."),
    "presets": ("vocable.cli.presets", "List known set-ups: rate, codebooks, bit/s, download, licence."),
    "export": ("vocable.cli.export", "Write a token store as files that other tools read."),
    "import-tokens": ("vocable.cli.import_tokens", "Make a token store of units that other tools wrote."),
    "import": ("vocable.cli.import_", "Make an artifact of codebooks or codecs that others published."),
    "demo": ("vocable.cli.demo", "Do all of it on the bundled speech, and write a page to see and hear it."),
}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # listing the commands must not import them
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vocable.__version__, "-V", "--version")
def cli() -> None:
    """Discrete audio tokens: audio becomes tokens, tokens become audio.

    \b
    vocable demo                                       see and hear it on bundled speech
    vocable train kmeans speech/ --out units/          learn 100 units from a folder
    vocable tokenize speech/ --tokenizer units/ --out tokens/
    vocable resynthesize tokens/ --out wavs/

    Tab completion: eval "$(_VOCABLE_COMPLETE=bash_source vocable)" in bash; zsh_source and fish_source likewise.
    """


def main() -> None:
    """Runs the command line. Exit code 1 for an error, 2 for wrong usage, 130 when interrupted."""
    # threads that wait must sleep: where other work shares the cores, spinning made everything up to seven times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        sys.exit(cli.main(prog_name="vocable", standalone_mode=False) or 0)
    except click.UsageError as problem:
        command = problem.ctx.command_path if problem.ctx else "vocable"
        _fail(_plain(problem.format_message()), f"see `{command} --help`", 2)
    except click.ClickException as problem:
        _fail(_plain(problem.format_message()), "", problem.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", "run the same command again to go on", 130)
    except VocableError as problem:
        _fail(problem.message, problem.hint, 1)
    except BrokenPipeError:
        # nobody reads any more: what is still to be flushed must go nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as problem:
        if problem.errno is None:
            raise
        place = f": {problem.filename}" if problem.filename else ""
        full = "free some space and run the same command again; what is finished is kept"
        _fail(f"{problem.strerror}{place}", full if problem.errno in _FULL else "", 1)


def _plain(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")


def _fail(message: str, hint: str, code: int) -> None:
    lines = [f"error: {message}"] + ([f"hint: {hint}"] if hint else [])
    # one line each, whatever a file name holds
    text = "\n".join("".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line) for line in lines)
    sys.stderr.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
    sys.exit(code)
