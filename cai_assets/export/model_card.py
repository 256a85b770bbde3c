"""The model card of an exported checkpoint: the card that it was published with, and what its lineage adds.

Added: the base model behind all training, data sets, results of the evaluation with their intervals (also as the Hub's
``model-index``), what shaped it in shares of text and labels, the models involved, and its records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cai_assets.evals.refusal import rule_of
from cai_assets.evals.refusal_labels import how_good
from cai_assets.evals.statistics import Estimate
from cai_assets.export.extra import ExportError, extra
from cai_assets.export.subject import Subject
from cai_assets.export.tables import fact_table, table
from cai_assets.lineage.principles import Influence
from cai_assets.reports.cards import HUB_ID
from cai_assets.reports.escape import inline
from cai_assets.reports.text.coverage import COVERAGE

ADDED = "<!-- added by the export -->"
UNEVALUATED = "No evaluation of this checkpoint was available."
NO_LICENSE = ("No license is set. It depends on the terms of the base model, of the models that wrote and labeled the "
              "data, and of the prompts: set it with `--license ID`; a public push asks for it.")


def exported_card(subject: Subject, *, datasets: Sequence[str] = (), license_: str | None = None) -> str:
    """The text of README.md."""
    with extra():
        from huggingface_hub import ModelCard, ModelCardData

    card = ModelCard.load(subject.folder / "README.md", ignore_metadata_errors=False)
    values: dict[str, Any] = {k: v for k, v in card.data.to_dict().items() if k != "model-index"}
    base, _ = subject.base()
    if "/" in base and HUB_ID.fullmatch(base):
        values["base_model"] = base
        values["base_model_relation"] = "finetune"
    if license_:
        values["license"] = license_
    if datasets:
        values["datasets"] = [_repository(name) for name in datasets]
    results = _results(subject)
    if results:
        values |= {"model_name": subject.name, "eval_results": results}
    data = ModelCardData(**values)
    body = card.text.split(ADDED)[0].strip()
    covered = "" if COVERAGE in body else subject.coverage()  # a card of an earlier release does not say it
    return f"---\n{data.to_yaml()}\n---\n\n{body}\n\n{_added(subject, covered, 'license' in values)}\n"


def _repository(name: str) -> str:
    if "/" not in name or not HUB_ID.fullmatch(name):
        raise ExportError(f"{name!r} is not the name of a data set on the Hub: write OWNER/NAME")
    return name


def _results(subject: Subject) -> list[Any]:
    """The evaluation as the Hub's EvalResult, with count and interval in ``metric_args``."""
    from huggingface_hub import EvalResult

    task = "text-classification" if subject.asset == "reward_model" else "text-generation"
    return [EvalResult(
        task_type=task, dataset_type="cai-assets-evaluation", dataset_name=f"held-out prompts: {m['prompts']}",
        dataset_config=m["prompts"], metric_type=m["metric"], metric_name=m["metric"].replace("_", " "),
        metric_value=m["value"], metric_args={k: m[k] for k in ("low", "high", "n", "ungraded") if m[k] is not None})
        for m in subject.metrics().iter_rows(named=True)]


def _added(subject: Subject, covered: str, licensed: bool) -> str:
    influence = subject.lineage.influence
    parts = [ADDED, "## Evaluated", _evaluated(subject),
             "## What shaped it", _shaped(influence) if influence else "Unknown.", *([covered] if covered else []),
             "## Models that took part", fact_table(("role", "model"), _models(subject)),
             "## Lineage", _lineage(subject)]
    return "\n\n".join([*parts, *([] if licensed else ["## License", NO_LICENSE])])


def _evaluated(subject: Subject) -> str:
    if subject.evaluation is None:
        return UNEVALUATED
    rows = [(m["metric"], m["prompts"], str(Estimate(m["value"], m["n"], m["low"], m["high"])), str(m["ungraded"]))
            for m in subject.metrics().iter_rows(named=True)]
    return (f"From {inline(subject.evaluation.ref.id)}, over the base model where it is a win rate. "
            f"{how_good(rule_of(subject.evaluation.details))}\n\n" + table(
                ("metric", "prompts", "value [interval] (count)", "ungraded"), rows))


def _shaped(influence: Influence) -> str:
    principles = [(p.id, p.critique or "", p.revision or "", p.preference or "", f"{p.rows:,}", f"{p.text_share:.1%}",
                   f"{p.labels:,}", f"{p.label_share:.1%}", "" if p.mean_strength is None else f"{p.mean_strength:.3f}")
                  for p in influence.principles]
    prompts = [(g.source, g.kind, g.category, f"{g.prompts:,}") for g in influence.prompts]
    header = ("principle", "critique request", "revision request", "preference request", "rows",
              f"share of {influence.measure}", "labels", "share of labels", "mean strength")
    return table(header, principles) + "\n\n" + table(("prompts from", "kind", "category", "prompts"), prompts)


def _models(subject: Subject) -> dict[str, str]:
    base, weights = subject.base()
    roles = {role: name for models in subject.lineage.models.values() for role, name in models.items()
             if role not in {"base", "base_name"}}
    return {**roles, "base model": base, "base weights": weights}


def _lineage(subject: Subject) -> str:
    lineage = subject.lineage
    rows = [(name, r.digest, "" if r.rows is None else f"{r.rows:,}", f"{r.created:%Y-%m-%d %H:%M}")
            for name, r in sorted(lineage.records.items(), key=lambda x: (x[1].created, x[0]))]
    spent = f"{lineage.total('seconds'):.1f} s, {lineage.total('gpu_seconds'):.1f} GPU-seconds"
    return ("`cai trace FOLDER` prints the whole lineage from this folder alone, `cai trace FOLDER --row ID` one "
            f"chain, and `cai verify FOLDER` checks every file. Spent on it: {spent}.\n\n"
            + table(("record", "digest", "rows", "made"), rows))
