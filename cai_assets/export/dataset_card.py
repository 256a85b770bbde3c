"""The card of an exported data set: what it is, what made it, what is in it, and what it is not good for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any

import polars as pl

from cai_assets.constitution.coverage import coverage
from cai_assets.export.dataset import Config, DataExport
from cai_assets.export.extra import extra
from cai_assets.export.tables import fact_table, setting_rows, table
from cai_assets.reports.escape import inline
from cai_assets.reports.text.coverage import coverage_markdown
from cai_assets.versions.rounds import round_of

ABOUT: dict[Config, str] = {
    "sft": "Supervised rows: `messages` ends with the response that is trained on. `round` is the round of critique "
           "and revision, 0 for a response that was not criticized; `source` names the file of a general conversation.",
    "preferences": "Pairs with a soft label: conversational `prompt`, `chosen`, `rejected`; `p_chosen` is the "
                   "labeler's probability of `chosen`, in the mean of both orders, and `label` is 'A', 'B' or 'tie' "
                   "(the orders contradict each other). `round` counts the rounds of the whole procedure. Prompts of "
                   "`test` were held out from the reward model.",
    "cai": "One row for each critique and revision, under the column names of other Constitutional AI data sets. "
           "`init_response` is the text that this round criticized. In a chain of several rounds the first row "
           "(`round` 1) has the very first response, and the row with `last_round` the final revision; "
           "`first_response` repeats the very first response in every row. In a direct revision the critique is null.",
}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
         (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"))
NO_LICENSE = ("No license is set: `license: unknown` stands for a decision that only you can take. It depends on the "
              "terms of the models that wrote and labeled the texts and on those of the prompts. Set it with "
              "`--license ID` before anyone else gets the data; a public push asks for it.")


def dataset_card(export: DataExport) -> str:
    """The text of README.md, front matter included."""
    with extra():
        from huggingface_hub import DatasetCard

    template = Template(files("cai_assets.export").joinpath("templates/dataset_card.md").read_text(encoding="utf-8"))
    body = template.substitute(
        title=inline(f"Constitutional AI data, constitution {export.version}"), configs=_configs(export),
        principles=_principles(export), coverage=_coverage(export),
        models=fact_table(("role", "model"), _models(export)),
        settings=table(("setting", "value"), setting_rows(_settings(export))), left_out=_left_out(export),
        license="" if export.license else NO_LICENSE, first=next(iter(export.splits)), records=_records(export),
        constitution=inline(f"{export.constitution.name} {export.constitution.version}"), version=export.version)
    return str(DatasetCard(f"---\n{_front_matter(export)}\n---\n\n{body}")).rstrip("\n") + "\n"


def _front_matter(export: DataExport) -> str:
    from huggingface_hub import DatasetCardData

    configs = [{"config_name": config, **({"default": True} if i == 0 else {}), "data_files": [
        {"split": split, "path": f"data/{config}/{split}-*.parquet"} for split in splits]}
        for i, (config, splits) in enumerate(export.splits.items())]
    data = DatasetCardData(
        pretty_name=f"Constitutional AI data, {export.version}", license=export.license or "unknown",
        task_categories=["text-generation"], annotations_creators=["machine-generated"],
        language_creators=["machine-generated"], size_categories=[size(export.rows)],
        tags=["constitutional-ai", "cai-assets", "rlaif", "synthetic", "not-for-all-audiences", *(
            {"sft": "sft", "preferences": "preference", "cai": "critique-revision"}[c] for c in export.splits)],
        configs=configs)
    return str(data.to_yaml())


def size(rows: int) -> str:
    """The Hub's category of a number of rows."""
    return next((name for limit, name in SIZES if rows < limit), "n>100M")


def _configs(export: DataExport) -> str:
    parts = []
    for config, splits in export.splits.items():
        rows = [(split, f"{f.height:,}") for split, f in splits.items()]
        columns = ", ".join(f"`{c}`" for c in splits["train"].columns)
        parts.append(f"### {config}\n\n{ABOUT[config]}\n\n{table(('split', 'rows'), rows)}\n\nColumns: {columns}.")
    return "\n\n".join(parts)


def _principles(export: DataExport) -> str:
    counts = {c: dict(pl.concat([f.select("principle_id") for f in splits.values()])["principle_id"].drop_nulls()
                      .value_counts().iter_rows()) for c, splits in export.splits.items()}
    rows = [(p.id, p.critique or "", p.revision or "", p.preference or "", f"{p.weight:g}",
             *(f"{n.get(p.id, 0):,}" for n in counts.values())) for p in export.constitution.principles]
    return table(("principle", "critique request", "revision request", "preference request", "weight",
                  *(f"rows in {c}" for c in counts)), rows)


def _coverage(export: DataExport) -> str:
    """How far the constitution covers the one it derives from, if it says that it derives from one."""
    own, parent = export.constitution, export.parent
    if not own.parent:
        return ""
    if parent is None:
        return f"\n\nIts parent, {inline(own.parent)}, is not registered, so its coverage is not known."
    return f"\n\n{coverage_markdown(coverage(parent, own))}"


def _models(export: DataExport) -> dict[str, str]:
    """Roles and their models, as the newest record that names each had them."""
    roles: dict[str, str] = {}
    for record in sorted(export.records.values(), key=lambda r: r.created):
        models: Mapping[str, Any] = record.settings.get("models") or {}
        roles |= {role: str(model["source"]) for role, model in models.items() if model}
    if round_of(export.version).number > 1:
        roles["starting policy"] = "the RL policy of the round before"
    return roles


def _settings(export: DataExport) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for record in sorted(export.records.values(), key=lambda r: r.created):
        if record.partition in {None, export.version}:
            settings |= {k: v for k, v in record.settings.items() if k not in {"models", "sl", "reward", "rl"}}
    return settings


def _left_out(export: DataExport) -> str:
    rows = [(config, why, f"{n:,}") for config, reasons in export.left_out.items() for why, n in reasons.items() if n]
    return table(("config", "why", "rows"), rows) if rows else "Nothing was left out."


def _records(export: DataExport) -> str:
    newest = sorted(export.sources.values(), key=lambda r: r.created)[-1]
    git = newest.provenance.get("git", {})
    rows = [(config, r.ref.id, r.digest) for config, r in export.sources.items()]
    digests = [("constitution", r.ref.id, r.digest) for r in export.records.values()
               if r.asset == "constitution" and r.partition == export.version]
    code = f"Code: commit {git.get('commit', 'unknown')}" + (" with local changes" if git.get("dirty") else "")
    return table(("from", "record", "digest"), [*rows, *digests[-1:]]) + f"\n\n{code}."
