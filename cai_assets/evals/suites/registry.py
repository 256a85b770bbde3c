"""Which suites there are: those bundled with the package, and those in your own folder.

A suite in the folder replaces a bundled one of the same name. Guarantee: a requested suite that cannot be used stops
everything before a model is called, with all problems of all suites in one message.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from cai_assets.constitution.files import yaml_files
from cai_assets.errors import CaiError
from cai_assets.evals.measures import MeasureError
from cai_assets.evals.suites.load import SuiteError, load_suite
from cai_assets.evals.suites.measures import check_measures
from cai_assets.evals.suites.model import Suite
from cai_assets.registry.base import NotRegistered
from cai_assets.settings import Evaluation

BUNDLED = Path(__file__).parents[2] / "data" / "suites"
Found = Mapping[str, Suite | SuiteError]


class SuitesError(CaiError, ValueError):
    """Requested suites that cannot be used. The message says which, why and what to do."""


def refuse_no_folder(settings: Evaluation) -> None:
    """Raise SuitesError if a folder for suites was set and does not exist; the usual one need not."""
    folder = settings.suites_folder
    if folder != Evaluation().suites_folder and not folder.is_dir():
        raise SuitesError(f"evaluation.suites_folder: no folder {folder}")


def suite_files(folder: Path | None) -> dict[str, Path]:
    """The file of every suite by name, in the order of names. ``folder`` need not exist."""
    files = [p for f in (BUNDLED, folder) if f is not None for p in yaml_files(f)]
    return dict(sorted({p.stem: p for p in files}.items()))


def read_suites(files: Mapping[str, Path], *, max_chars: int) -> dict[str, Suite | SuiteError]:
    """Every suite, or what is wrong with it."""
    suites: dict[str, Suite | SuiteError] = {}
    for name, path in files.items():
        try:
            suites[name] = load_suite(path, max_chars=max_chars)
        except SuiteError as e:
            suites[name] = e
    return suites


def load_suites(folder: Path | None, names: Sequence[str], *, max_chars: int) -> list[Suite]:
    """The suites of these names, or all, in the order of names. Raise SuitesError if one of them cannot be used."""
    try:
        check_measures()
    except (NotRegistered, MeasureError) as e:
        raise SuitesError(str(e)) from None
    files = suite_files(folder)
    for name in names:
        if name not in files:
            near = difflib.get_close_matches(name, files, n=1)
            advice = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(files)}"
            raise SuitesError(f"evaluation.suites: no suite '{name}' in {folder} or in the package: {advice}")
    suites = read_suites({n: p for n, p in files.items() if not names or n in names}, max_chars=max_chars)
    bad = [str(e) for e in suites.values() if isinstance(e, SuiteError)]
    if bad:
        raise SuitesError("\n".join([*bad, "'cai suites' lists all; evaluation.suites names those to run"]))
    return [s for s in suites.values() if isinstance(s, Suite)]
