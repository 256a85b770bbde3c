"""The model card of a checkpoint: what it is, what made it, what was measured, and what it is not good for.

Guarantees: the front matter is YAML that the Hugging Face Hub reads; texts of principles and settings are shown, never
live; no local path enters the card; what was not measured is said to be unmeasured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import PurePath
from string import Template
from typing import Any

import yaml

from cai_assets.evals.statistics import Estimate
from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.registry.rewards import REWARDS
from cai_assets.reports.escape import inline
from cai_assets.reports.text.tables import table
from cai_assets.train.job import TrainingKind

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_TAGS = {"texts": "midtraining", "supervised": "sft", "reward": "reward-model"}
_LOADERS = {"reward": "AutoModelForSequenceClassification"}
_WHAT: dict[TrainingKind, str] = {
    "texts": "A policy trained on documents about the principles and general text, before its supervised phase.",
    "supervised": "A policy fine-tuned on revised responses: the supervised phase of Constitutional AI.",
    "reward": "A reward model trained on AI preference labels: it gives one number for a conversation, higher for the "
              "answer that the labeling model, guided by the principles, is expected to prefer.",
    "reinforcement": "A policy trained on AI feedback: the reinforcement phase of Constitutional AI.",
}
_BASELINE = ("A policy fine-tuned on a model's own first responses, without a constitution: what the others are "
             "compared with.")
LIMITS = (
    "A model trained this way is no safer than its principles, its prompts and the model that criticized, revised, and "
    "labeled. Small models go through the procedure without gaining judgment from it: they copy the form of a refusal, "
    "even where help was asked for. Behavior figures hold for the prompts they were measured on, and come from a judge "
    "model and from lexical measures, each with errors of its own; intervals cover the choice of prompts only, not "
    "these errors. Nothing here shows that the model is safe to deploy. Test it on your intended use, and look at "
    "refusals of harmless requests as closely as at answers to harmful ones."
)


@dataclass(frozen=True)
class PrincipleUse:
    """A principle and the number of training rows it shaped."""

    id: str
    text: str
    rows: int


@dataclass(frozen=True)
class CardInput:
    """All that a card says.

    ``base``: a hub id ('owner/name') or a name; of an absolute path only the last part is shown. ``rows``: training
    rows by what they are, such as {'revisions': 96, 'helpful': 8}. ``constitution``: name and version, None if none
    took part; ``coverage``: of its parent, a line of Markdown. ``metrics``: plain numbers (of the training) or
    Estimates (of the evaluation). ``created``: ISO 8601, UTC. ``code``: the git commit.
    """

    kind: TrainingKind
    key: str
    base: str
    base_digest: str
    constitution: str | None
    rows: Mapping[str, int]
    created: str
    code: str
    principles: Sequence[PrincipleUse] = ()
    coverage: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Estimate | float | None] = field(default_factory=dict)
    license: str | None = None


def model_card(card: CardInput) -> str:
    """The text of the checkpoint's README.md."""
    template = Template(files("cai_assets.reports").joinpath("templates/model_card.md").read_text(encoding="utf-8"))
    body = template.substitute(
        title=inline(_title(card)), what=_what(card), data=_data(card), principles=_principles(card),
        settings=_table(("setting", "value"), [(k, str(v)) for k, v in card.settings.items()]),
        metrics=_metrics(card), limits=LIMITS, load=_load(card.kind), provenance=_provenance(card))
    return f"---\n{_front_matter(card)}---\n\n{body}"


def _front_matter(card: CardInput) -> str:
    values: dict[str, Any] = {"library_name": "transformers"}
    # A hub id names a model there; anything else would link to a stranger's model or to nothing.
    if "/" in card.base and HUB_ID.fullmatch(card.base):
        values["base_model"] = card.base
    if card.license:
        values["license"] = card.license
    values["pipeline_tag"] = "text-classification" if card.kind == "reward" else "text-generation"
    values["tags"] = ["constitutional-ai", "cai-assets", "trl", _algorithm(card) or _TAGS[card.kind]]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _algorithm(card: CardInput) -> str | None:
    return str(card.settings.get("algorithm", "ppo")) if card.kind == "reinforcement" else None


def _what(card: CardInput) -> str:
    if card.kind == "supervised" and card.constitution is None:
        return _BASELINE
    name = _algorithm(card)
    if name is None:
        return _WHAT[card.kind]
    algorithm = ALGORITHMS.find(name)
    label = algorithm.label if algorithm else name
    source = "" if algorithm and not algorithm.online else f", rewarded by {_reward(card)}"
    return f"{_WHAT[card.kind]} By {label}{source}."


def _reward(card: CardInput) -> str:
    name = str(card.settings.get("reward", "model"))
    source = REWARDS.find(name)
    return source.label if source else name


def _base(card: CardInput) -> str:
    return card.base if HUB_ID.fullmatch(card.base) else PurePath(card.base.replace("\\", "/")).name


def _title(card: CardInput) -> str:
    supervised = "SL policy" if card.constitution else "SFT baseline"
    what = {"texts": "midtrained policy", "supervised": supervised, "reward": "reward model",
            "reinforcement": "RL policy"}[card.kind]
    return f"{what} from {_base(card)}" + (f", constitution {card.constitution}" if card.constitution else "")


def _data(card: CardInput) -> str:
    total = sum(card.rows.values())
    return f"{total:,} rows.\n\n" + _table(("rows of", "count"), [(k, f"{v:,}") for k, v in card.rows.items()])


def _principles(card: CardInput) -> str:
    if not card.constitution:
        return "No constitution was involved."
    rows = [(p.id, p.text, f"{p.rows:,}") for p in sorted(card.principles, key=lambda p: (-p.rows, p.id))]
    told = [f"Constitution: {inline(card.constitution)}", *([card.coverage] if card.coverage else [])]
    return "\n\n".join([*told, _table(("principle", "text", "rows"), rows)])


def _metrics(card: CardInput) -> str:
    rows = [(name, str(m) if isinstance(m, Estimate) else "unknown" if m is None else f"{m:.4g}")
            for name, m in card.metrics.items()]
    return _table(("metric", "value [interval] (count)"), rows) if rows else "Nothing was measured on this checkpoint."


def _load(kind: TrainingKind) -> str:
    loader = _LOADERS.get(kind, "AutoModelForCausalLM")
    return (f"from transformers import AutoTokenizer, {loader}\n\n"
            'folder = "."  # the folder this card lies in\n'
            "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
            f"model = {loader}.from_pretrained(folder)")


def _provenance(card: CardInput) -> str:
    rows = [("checkpoint key", card.key), ("base model", _base(card)), ("base weights", card.base_digest),
            ("created", card.created), ("code", card.code)]
    return _table(("", ""), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(header, rows, cell=1000) if rows else "None recorded."
