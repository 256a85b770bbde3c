"""Export datasets, models, lineage, and constitutions in standard formats.

Only ``--push`` reaches the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cai_assets.cli.common import app, find_constitution, out, read_settings, refuse_to_replace, stop
from cai_assets.export.extra import ExportError
from cai_assets.store.layout import Layout

if TYPE_CHECKING:
    from cai_assets.export.push import RepoType

export = typer.Typer(no_args_is_help=True, help=__doc__)
app.add_typer(export, name="export")

Out = Annotated[Path, typer.Option("--out", help="The folder to write; it must be empty or not exist")]
Force = Annotated[bool, typer.Option("--force", help="Replace the contents of that folder")]
Target = Annotated[str, typer.Argument(help="A checkpoint's folder or key, or ASSET@VERSION")]
Push = Annotated[str | None, typer.Option(help="Upload to this Hub repository (OWNER/NAME), private; needs HF_TOKEN")]
Public = Annotated[bool, typer.Option("--public", help="With --push: let everyone read it; needs --license")]
License = Annotated[str | None, typer.Option(help="The license, by its Hub name, such as apache-2.0")]
KINDS = ("sft", "preferences", "cai", "all")


@export.command()
def dataset(
    version: Annotated[str, typer.Argument(help="A constitution version")], out_: Out,
    kind: Annotated[str, typer.Option(help=f"What to write: {', '.join(KINDS)}")] = "all",
    license_: License = None, push: Push = None, public: Public = False, force: Force = False,
) -> None:
    """Export a version's data as a Hub dataset: SFT, preferences with soft labels, critiques and revisions."""
    from cai_assets.export.hub_dataset import export_dataset

    if kind not in KINDS:
        stop(f"--kind {kind}: use one of {', '.join(KINDS)}")
    settings = read_settings({})
    token = _token(push, public, license_)
    made = export_dataset(Layout(settings.data_root), version, out_, kind=kind,  # type: ignore[arg-type]
                          held_out=settings.reward.held_out, license_=license_, force=force)
    for config, splits in made.splits.items():
        counts = ", ".join(f"{split} {frame.height} rows" for split, frame in splits.items())
        left = sum(made.left_out[config].values())
        _say(f"{config}: {counts}" + (f"; {left} excluded (the card says why)" if left else ""))
    _done(out_, push, public, token, "dataset", f"load_dataset({str(out_)!r}, {next(iter(made.splits))!r})")


@export.command()
def model(
    target: Target, out_: Out,
    dataset_: Annotated[list[str] | None, typer.Option("--dataset", help="Its data on the Hub; repeatable")] = None,
    license_: License = None, push: Push = None, public: Public = False, force: Force = False,
) -> None:
    """Export a checkpoint as a Hub model: weights, model card with evaluation and principles, and its own lineage."""
    from cai_assets.export.hub_model import export_model
    from cai_assets.export.subject import find_subject

    token = _token(push, public, license_)
    subject = find_subject(Layout(read_settings({}).data_root), target)
    export_model(subject, out_, datasets=dataset_ or (), license_=license_, force=force)
    _say(f"{subject.name}, {subject.key}: " + ("with the results of " + subject.evaluation.ref.id
                                               if subject.evaluation else "without results: not evaluated yet"))
    _done(out_, push, public, token, "model", f"cai trace {out_}")


@export.command()
def lineage(target: Target, out_: Out, force: Force = False) -> None:
    """Export lineage as OpenLineage events, an in-toto statement with SLSA provenance, and a CycloneDX ML-BOM."""
    from cai_assets.export.lineage import export_lineage
    from cai_assets.export.subject import find_subject

    subject = find_subject(Layout(read_settings({}).data_root), target)
    export_lineage(subject, out_, force=force)
    for path in sorted(out_.iterdir()):
        _say(f"{path.name}: {path.stat().st_size} bytes")
    _say(f"Wrote {out_}. Next: ship it with the checkpoint. The statement is unsigned: sign it if others must "
         "trust it")


@export.command()
def constitution(
    name: Annotated[str, typer.Argument(help="A constitution's name (its current file), a file, or a version")],
    out_: Annotated[Path, typer.Option("--out", help="The file to write: NAME.yaml, or NAME.json for other tools")],
    force: Annotated[bool, typer.Option("--force", help="Replace that file")] = False,
) -> None:
    """Export a constitution as YAML, or as the JSON of Hugging Face's llm-swarm. 'cai import' reads both back."""
    from cai_assets.constitution.file_form import as_json, as_yaml
    from cai_assets.constitution.files import YAML
    from cai_assets.store.files import write_atomic

    if out_.suffix not in {*YAML, ".json"}:
        raise ExportError(f"--out {out_}: name a file that ends in .yaml or .json")
    refuse_to_replace(out_, force=force)
    found = find_constitution(read_settings({}), name)
    write_atomic(out_, (as_json(found) if out_.suffix == ".json" else as_yaml(found)).encode())
    without = len(found.principles) - len(found.taking_part("critique"))
    if without and out_.suffix == ".json":
        _say(f"{without} of {len(found.principles)} principles have no 'critic' and 'revision', which llm-swarm needs")
    _say(f"Wrote {out_}: {len(found.principles)} principles. Next: cai import {out_} --out constitutions/NAME.yaml")


def _token(repository: str | None, public: bool, license_: str | None) -> str:
    """The Hub's token if a push is requested; reasons to refuse it are reported before anything is written."""
    from cai_assets.export.push import refuse_push

    if repository is None:
        if public:
            raise ExportError("--public only applies to --push: add --push OWNER/NAME")
        return ""
    return refuse_push(repository, public=public, license_=license_)


def _done(folder: Path, repository: str | None, public: bool, token: str, repo_type: RepoType, use: str) -> None:
    from cai_assets.export.push import push

    if repository is None:
        _say(f"Wrote {folder}. Next: {use}; or upload it with --push OWNER/NAME --force")
        return
    where = push(folder, repository, repo_type=repo_type, token=token, public=public)
    _say(f"Wrote {folder} and pushed it to {repository} ({'public' if public else 'private'}): {where}")


def _say(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)
