"""What every command uses: the app, the two consoles, settings, the instance, errors that help."""

from __future__ import annotations

import errno
import gc
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console, ConsoleDimensions
from typer.core import TyperGroup

from cai_assets import __version__
from cai_assets.cli import complete
from cai_assets.cli.verbs import Verbs
from cai_assets.constitution.files import YAML, constitution_file
from cai_assets.errors import CaiError
from cai_assets.store import this_run

if TYPE_CHECKING:
    from cai_assets.constitution.model import Constitution
    from cai_assets.settings import Settings

PIPED_WIDTH = 1000
INTERRUPTED = "Interrupted. Finished work is kept: the same command goes on from here."


class Commands(TyperGroup):
    """Commands whose errors end as one message on stderr: our own, and what the system refuses (a full disk)."""

    def invoke(self, ctx: Any) -> Any:  # a context of Click, or of the copy of it in newer Typers
        this_run.begin()
        _can_be_ended()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            stop(INTERRUPTED, 130)
        except CaiError as e:
            stop(str(e), self.exit_code(e))
        except OSError as e:
            if e.errno == errno.EPIPE:  # whoever read our output is gone, and click knows what to do
                raise
            stop(str(e), self.exit_code(e))
        except Exception as e:
            if not type(e).__module__.startswith("sqlalchemy"):  # of Dagster's storage
                raise
            stop(_explained(e), self.exit_code(e))

    def exit_code(self, error: Exception) -> int:
        """2: what was asked for cannot be done."""
        return 2


def _can_be_ended() -> None:
    """A shell's background job ignores SIGINT. Dagster gives SIGTERM the same handler, and nothing would end it."""
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Lines(Console):
    """A terminal's width where there is a terminal; through a pipe or into a file, nothing is broken over lines."""

    @property
    def size(self) -> ConsoleDimensions:
        if self.is_terminal:
            return super().size
        columns = os.environ.get("COLUMNS", "")  # as it is now, not as it was when the console was made
        return ConsoleDimensions(int(columns) if columns.isdigit() else PIPED_WIDTH, 25)

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        self._width, self._height = size


class Program(Verbs, Commands):
    """``cai``."""


app = typer.Typer(
    cls=Program, invoke_without_command=True, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Constitutional AI as Dagster assets.\n\nStart with [b]cai demo[/b], then [b]cai ui[/b]. Edit a principle in "
         "constitutions/, then run [b]cai plan NAME[/b] and [b]cai materialize NAME[/b]: only what the edit affects is "
         "recomputed.", rich_markup_mode="rich")
out = Lines()
err = Lines(stderr=True)


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit")] = False,
) -> None:
    """What every call passes through."""
    gc.set_threshold(100_000)  # as it is, a fourth of a start goes into looking for garbage in what is being imported
    if version:
        typer.echo(f"cai-assets {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


Version = Annotated[str, typer.Argument(help="A registered version, or a constitution's name (its current file)",
                                        autocompletion=complete.versions)]
Set = Annotated[list[str] | None, typer.Option("--set", "-s", help="A setting, such as rl.beta=0.1; repeatable")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]
Scale = Annotated[str | None, typer.Option(help="Scale of the run: smoke, small, or full")]


def parse_overrides(scale: str | None, pairs: list[str] | None) -> dict[str, Any]:
    from cai_assets.settings.load import put, yaml_value

    overrides: dict[str, Any] = {"scale": scale} if scale else {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE, such as rl.beta=0.1", param_hint="--set")
        put(overrides, name.split("."), yaml_value(text, f"--set {name}"), f"--set {pair}")
    return overrides


def as_typed(scale: str | None, pairs: list[str] | None) -> list[str]:
    """The options that ``parse_overrides`` reads, for a command that is shown."""
    return [*(["--scale", scale] if scale else []), *(word for pair in pairs or [] for word in ("-s", pair))]


def read_settings(overrides: dict[str, Any]) -> Settings:
    """The settings of this call. Raise SettingsError."""
    from cai_assets.settings import load_settings

    return load_settings(overrides)


def open_project(settings: Settings) -> Any:
    from cai_assets.pipeline.project import Project

    return Project(settings)


def open_instance() -> Any:
    from cai_assets.defs import home

    return home.open_instance()


def register_file(settings: Settings, name: str) -> str:
    """Register the constitution file as it is now and return its version. Runs and 'cai ui' tell Dagster of it."""
    from cai_assets.constitution.load import load_file
    from cai_assets.store.layout import Layout
    from cai_assets.versions.snapshots import Snapshots

    return Snapshots(Layout(settings.data_root)).register(load_file(constitution_file(settings.constitutions, name)))


def resolve_version(settings: Settings, name: str) -> str:
    """A version as it is; for the name of a constitution file, the version of that file as it is now."""
    return register_file(settings, name) if constitution_file(settings.constitutions, name).exists() else name


def find_constitution(settings: Settings, name: str) -> Constitution:
    """The constitution of a file as it is now, given by its path or its name, or of a registered version."""
    from cai_assets.constitution.load import load_file

    named = constitution_file(settings.constitutions, name)
    if named.is_file() or name.endswith(YAML):
        return load_file(named if named.is_file() else Path(name))
    constitution: Constitution = open_project(settings).snapshots.load(name)
    return constitution


def _explained(error: Exception) -> str:
    from cai_assets.defs.home import explain

    why = explain(str(error))
    if why is None:
        raise error
    return why


def refuse_to_replace(path: Path, *, force: bool) -> None:
    """Exit, unless the file may be written: it does not exist yet, or ``--force`` was given."""
    if path.exists() and not (force and path.is_file()):
        stop(f"{path} exists: name another file, or replace it with --force")


def stop(message: str, code: int = 2) -> NoReturn:
    """Say what is wrong on stderr and exit."""
    err.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)
