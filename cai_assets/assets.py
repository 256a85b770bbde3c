"""The graph, said once: every asset, what it reads and what its table holds, and the names of the policies.

Facts only, on the ground floor: this imports nothing of ours. To add an asset, declare it here in the order of the
graph; summary, trace, compare, why, diff, attribute, exports, the arguments of its ``@dg.asset`` and the drawings in
docs/start.md and docs/architecture.md follow. ``tests/defs/test_declarations.py`` names what was forgotten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Group = Literal["inputs", "supervised", "preference", "reinforcement", "evaluation"]
# 'snapshot': a constitution as it was registered. 'view': shows what others hold, calls no model.
AssetKind = Literal["snapshot", "table", "training", "view"]
Request = Literal["critique", "revision", "preference", "evaluation"]


class Shape(NamedTuple):
    """Which columns of an asset's table make a row. ``keys``: of the calls behind it. ``calls``: its text is that of
    the call of its first key, and is trained on as such. ``messages``: it holds its own conversation."""

    id: str
    parents: tuple[str, ...]
    text: str | None = None
    keys: tuple[str, ...] = ()
    calls: bool = False
    messages: bool = False


class Part(NamedTuple):
    """What a version has only if something asks for it: a principle with one of ``requests``, or else settings
    (``setting``, by default off). ``alone``: what a version is called that has this half and not the other.
    """

    requests: tuple[str, ...] = ()
    alone: str = ""
    setting: str = ""


CRITIQUED = Part(("critique",), alone="the supervised half alone")
LABELED = Part(("preference",), alone="RLAIF alone, from the policy that it starts with")
DOCUMENTED = Part(setting="documents.per_kind")
HALVES = (CRITIQUED, LABELED)

RESPONSE = Shape("row_id", ("prompt_id",), "response", ("row_key",), calls=True)
LABELS = "preference_pairs"
WRITTEN = "written_prompts"
ASKED = ("prompts", WRITTEN)  # whose rows are what is asked


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One asset.

    ``reads``: the assets above it. ``versioned``: made for each constitution version. ``rows``: the shapes of its
    table's rows, for lineage. ``steps``: whose calls it makes. ``settings``: the groups that its record keeps.
    ``policy``: a training whose result answers prompts. ``request``: of a principle, the text that its calls quote.
    ``part``: what it belongs to, if not every version has it (``pipeline/absent.py``); then it may have no record.
    ``row`` and ``key``: the columns by which a person names a row, and that say which call decides it.
    """

    name: str
    group: Group
    about: str
    reads: tuple[str, ...] = ()
    versioned: bool = True
    kind: AssetKind = "table"
    rows: tuple[Shape, ...] = ()
    steps: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    policy: bool = False
    request: Request | None = None
    part: Part | None = None
    row: str = "prompt_id"
    key: str = "row_key"

    @property
    def spends(self) -> bool:
        """Whether making it calls a model or trains one, so that it has a line in a plan."""
        return bool(self.steps) or self.kind == "training"


EVERY = (
    Asset(name="prompts", group="inputs", versioned=False, settings=("prompts",),
          rows=(Shape("prompt_id", (), "messages", messages=True),),
          about="Red-team and helpful prompts; the train and evaluation splits never overlap."),
    Asset(name=WRITTEN, group="inputs", versioned=False, reads=("prompts",),
          rows=(Shape("prompt_id", ("like",), "messages", ("row_key",), messages=True),),
          steps=("write_prompt", "screen_prompt"), settings=("prompts", "written", "models"),
          about="Further training prompts that a model wrote from examples, where settings ask for any."),
    Asset(name="initial_responses", group="inputs", versioned=False, reads=ASKED,
          rows=(RESPONSE,),
          steps=("respond",), settings=("generation", "models"),
          about="The generator's response to every prompt."),
    Asset(name="constitution", group="inputs", kind="snapshot",
          about="The principles of one constitution version, with their few-shot examples, as registered."),
    Asset(name="starting_responses", group="inputs", reads=("initial_responses",), rows=(RESPONSE,),
          steps=("respond",), settings=("generation",),
          about="The responses that this round improves on."),
    Asset(name="critiques", group="supervised", part=CRITIQUED, reads=("constitution", "starting_responses"),
          rows=(Shape("row_id", ("parent_id",), "critique", ("row_key",)),), steps=("critique", "verdict"),
          settings=("critique", "generation", "models"), request="critique",
          about="Each round's critique of the newest text, by the principle that the chain drew."),
    Asset(name="revisions", group="supervised", part=CRITIQUED,
          reads=("constitution", "starting_responses", "critiques"),
          rows=(Shape("row_id", ("parent_id", "critique_id"), "revision", ("row_key",), calls=True),),
          steps=("revision", "in_context", "reason"), settings=("critique", "generation", "models", "supervised"),
          request="revision", about="Each round's revision in response to its critique."),
    Asset(name="sl_dataset", group="supervised", part=CRITIQUED, reads=("starting_responses", "revisions"),
          rows=(Shape("row_id", (), "response", messages=True),), settings=("supervised",),
          about="What the SL policy is trained on: revised responses, helpful ones, and general ones if set."),
    Asset(name="spec_documents", group="supervised", reads=("constitution", "starting_responses"), part=DOCUMENTED,
          rows=(Shape("row_id", (), "text", ("row_key",), calls=True),), steps=("write_document",),
          settings=("documents", "models"), row="document_id",
          about="Articles, dialogues, and memos about each principle, where settings ask for any."),
    Asset(name="mid_policy", group="supervised", reads=("starting_responses", "spec_documents"), part=DOCUMENTED,
          kind="training", settings=("mid", "documents"),
          about="The starting policy after training on these documents and general text, where settings ask for it."),
    Asset(name="sl_policy", group="supervised", part=CRITIQUED, reads=("sl_dataset", "mid_policy"), kind="training",
          policy=True, settings=("sl",), about="The policy after supervised training on the revisions (SL-CAI)."),
    Asset(name="sft_baseline", group="supervised", versioned=False, reads=("initial_responses",), kind="training",
          policy=True, settings=("sl",),
          about="Plain supervised fine-tuning on initial responses, without a constitution."),
    Asset(name="response_pairs", group="preference", part=LABELED,
          reads=("starting_responses", "revisions", "sl_policy"),
          rows=tuple(Shape(f"row_id_{s}", ("prompt_id",), f"response_{s}", (f"row_key_{s}",), calls=True)
                     for s in "ab"),
          steps=("respond",), settings=("pairs", "generation"), row="pair_id", key="row_key_a",
          about="Two responses to each training prompt."),
    Asset(name=LABELS, group="preference", part=LABELED, reads=("constitution", "response_pairs"),
          rows=(Shape("row_id", ("row_id_a", "row_id_b"), "chosen", ("row_keys", "row_key_first", "row_key_second")),),
          steps=("thought", "label"), settings=("labels", "models"), request="preference", row="pair_id",
          key="row_key_first", about="AI labels: which response the constitution prefers, asked in both orders."),
    Asset(name="reward_model", group="preference", part=LABELED, reads=(LABELS,), kind="training", settings=("reward",),
          about="A scalar model trained to prefer what the labels prefer."),
    Asset(name="rl_policy", group="reinforcement", part=LABELED, kind="training", policy=True, settings=("rl",),
          reads=("constitution", "sl_dataset", "sl_policy", "response_pairs", LABELS, "reward_model"),
          about="The policy after reinforcement learning from AI feedback (RL-CAI)."),
    Asset(name="evaluation", group="evaluation", steps=("respond", "judge"), request="evaluation",
          reads=("constitution", "starting_responses", "sft_baseline", "sl_policy", "reward_model", "rl_policy"),
          settings=("evaluation", "generation", "labels", "models"),
          about="Every policy on the same held-out prompts; each rate with its count and interval."),
    Asset(name="suite_results", group="evaluation", steps=("respond", "judge"),
          reads=("starting_responses", "sft_baseline", "sl_policy", "rl_policy"),
          settings=("evaluation", "generation", "labels", "models"),
          about="Every policy on suites: attack success, over-refusal, helpfulness, and ability, against the base "
                "model."),
    Asset(name="round_quality", group="evaluation", part=CRITIQUED, reads=("starting_responses", "revisions"),
          steps=("judge",), settings=("evaluation", "labels", "models"),
          about="What each critique-revision round gains, judged in both orders, and where it stops paying off."),
    Asset(name="constitution_tests", group="evaluation", reads=("constitution", "rl_policy"),
          steps=("respond", "critique", "verdict", "revision", "thought", "label", "judge"),
          settings=("critique", "generation", "labels", "evaluation", "models"),
          about="What the constitution's author expects of each principle, and whether it holds."),
    Asset(name="stress", group="evaluation", reads=("constitution",),
          rows=(Shape("prompt_id", (), "messages", ("row_key_prompt",), messages=True),
                Shape("row_id", ("prompt_id",), "response", ("row_key", "row_keys"), calls=True)),
          steps=("write_tradeoff", "paraphrase", "respond", "rubric"),
          settings=("stress", "written", "generation", "labels", "models"),
          about="Which principles contradict each other on trade-off prompts, and how clear each is, where settings "
                "ask."),
    Asset(name="attribution", group="evaluation", reads=("suite_results", "evaluation"), kind="view",
          settings=("evaluation", "pairs"),
          about="What changes when one principle at a time is left out, with intervals."),
    Asset(name="report", group="evaluation", kind="view", settings=("monitors",),
          reads=("evaluation", "suite_results", "round_quality", "constitution_tests", "stress", "attribution"),
          about="A version's headline figures, with intervals and counts, and the page that shows them."),
    Asset(name="comparison", group="evaluation", versioned=False, reads=("evaluation", "report"), kind="view",
          about="The newest evaluation of every version, side by side."),
)
ASSETS = {a.name: a for a in EVERY}
GRAPH = tuple(a for a in EVERY if not a.part or not a.part.setting)  # by default


def upstream(name: str) -> frozenset[str]:
    """Every asset that one is made from, however far above it."""
    return frozenset(ASSETS[name].reads).union(*(upstream(above) for above in ASSETS[name].reads))


def downstream(names: Collection[str]) -> tuple[str, ...]:
    """Some assets and all that is made from them, in the order of the graph."""
    return _names(a for a in GRAPH if a.name in names or upstream(a.name) & set(names))


def needed(*names: str) -> tuple[str, ...]:
    """Some assets and all that they are made from, in the order of the graph."""
    above = frozenset(names).union(*(upstream(name) for name in names))
    return _names(a for a in GRAPH if a.name in above)


def members(part: Part) -> tuple[str, ...]:
    """The assets of a part of the graph, in its order."""
    return _names(a for a in EVERY if a.part == part)


def partition_of(name: str, version: str | None) -> str | None:
    """The partition of an asset for a constitution version; None if no version owns it."""
    return None if name in WITHOUT_VERSION else version


def about(name: str) -> str:
    """What an asset is, in one sentence; its name, if a record names an asset of another release."""
    return ASSETS[name].about if name in ASSETS else name


def call_steps(name: str) -> tuple[str, ...]:
    """The steps that may have made an asset's rows: its own, and those of what it reads, whose rows it may hold."""
    return tuple(dict.fromkeys(step for n in (name, *ASSETS[name].reads) for step in ASSETS[n].steps))


def _names(chosen: Iterable[Asset]) -> tuple[str, ...]:
    return tuple(a.name for a in chosen)


ORDER = _names(GRAPH)
OPTIONAL = members(DOCUMENTED)
# Assets that know nothing of a constitution, or compare all of them.
WITHOUT_VERSION = frozenset(a.name for a in EVERY if not a.versioned)
CHECKPOINTS = _names(a for a in EVERY if a.kind == "training")
SPENDING = _names(a for a in GRAPH if a.spends)
# Whose rows are calls, and can be asked about one by one.
CALLED = _names(a for a in EVERY if any(shape.keys for shape in a.rows))
# What one side of a comparison holds: all but its constitution, and what is made of sides.
COMPARABLE = _names(a for a in EVERY if a.kind != "snapshot" and "report" not in {a.name, *upstream(a.name)})
# The assets of a version that must be made before its principles can be told apart.
ATTRIBUTED = tuple(name for name in needed(*ASSETS["attribution"].reads) if name not in WITHOUT_VERSION)
TO_ATTRIBUTE = (*OPTIONAL, *ATTRIBUTED)  # what a run makes for it: these, and what settings may ask for

# Shapes of rows in the order in which an id that two assets hold is taken to be made. What gathers rows without naming
# their parents comes last: of an id that it shares, another asset made the row. ``rollouts`` and
# ``training_rows`` are no assets but tables beside a checkpoint's record: what a policy said while it was rewarded by
# principles; general conversations and people's comparisons.
SHAPES = {
    **{a.name: a.rows for a in sorted((a for a in EVERY if a.rows), key=lambda a: bool(a.reads) and not any(
        shape.parents for shape in a.rows))},
    "rollouts": (Shape("row_id", ("prompt_id",), "response", ("row_keys",)),),
    "training_rows": (Shape("row_id", (), "text", messages=True),),
}

BASE, AGAIN = "base", "base_again"
# Trained policies in the order of tables: the baseline, which no version owns, comes first.
TRAINED = _names(sorted((a for a in GRAPH if a.policy), key=lambda a: a.versioned))
PLAIN = next(name for name in TRAINED if name in WITHOUT_VERSION)
OWN = tuple(name for name in TRAINED if name != PLAIN)  # of a version, the last one being what it stands for
# Judged against each other as well: what a training did to the policy it started from.
RIVALS = {name: start for name in OWN for start in ASSETS[name].reads if start in OWN}
OWN_POLICIES = frozenset({BASE, AGAIN, *CHECKPOINTS})  # names that no policy of ``evaluation.others`` may have
