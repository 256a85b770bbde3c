"""What every command uses: the app, the two consoles, settings, the instance, errors that help."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from cai_assets.constitution.files import YAML, constitution_file
from cai_assets.constitution.load import load_file
from cai_assets.constitution.model import Constitution
from cai_assets.errors import CaiError
from cai_assets.settings import Settings, load_settings
from cai_assets.settings.load import put, yaml_value
from cai_assets.store import this_run
from cai_assets.versions.snapshots import VERSIONS


class Commands(TyperGroup):
    """Commands whose errors end as one message on stderr: our own, and what the system refuses (a full disk)."""

    def invoke(self, ctx: Any) -> Any:  # a context of Click, or of the copy of it in newer Typers
        this_run.begin()
        try:
            return super().invoke(ctx)
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


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Constitutional AI as Dagster assets.\n\nStart with [b]cai demo[/b], then [b]cai ui[/b]. Edit a principle in "
         "constitutions/, then run [b]cai register[/b] and [b]cai materialize VERSION[/b]: only what the edit affects "
         "is recomputed.", rich_markup_mode="rich")
out = Console()
err = Console(stderr=True)

Set = Annotated[list[str] | None, typer.Option("--set", "-s", help="A setting, such as rl.beta=0.1; repeatable")]
Scale = Annotated[str | None, typer.Option(help="Scale of the run: smoke, small, or full")]


def parse_overrides(scale: str | None, pairs: list[str] | None) -> dict[str, Any]:
    overrides: dict[str, Any] = {"scale": scale} if scale else {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE, such as rl.beta=0.1", param_hint="--set")
        put(overrides, name.split("."), yaml_value(text, f"--set {name}"), f"--set {pair}")
    return overrides


def read_settings(overrides: dict[str, Any]) -> Settings:
    """The settings of this call. Raise SettingsError."""
    return load_settings(overrides)


def open_project(settings: Settings) -> Any:
    from cai_assets.pipeline.project import Project

    return Project(settings)


def open_instance() -> Any:
    from cai_assets.defs import home

    return home.open_instance()


def register_file(settings: Settings, name: str) -> str:
    """Register the constitution file as it is now and return its version."""
    constitution = load_file(constitution_file(settings.constitutions, name))
    with open_instance() as instance:
        key: str = open_project(settings).snapshots.register(constitution)
        instance.add_dynamic_partitions(VERSIONS, [key])
    return key


def resolve_version(settings: Settings, name: str) -> str:
    """A version as it is; for the name of a constitution file, the version of that file as it is now."""
    return register_file(settings, name) if constitution_file(settings.constitutions, name).exists() else name


def find_constitution(settings: Settings, name: str) -> Constitution:
    """The constitution of a file as it is now, given by its path or its name, or of a registered version."""
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
