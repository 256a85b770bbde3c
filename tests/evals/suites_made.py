"""Suites and policies that are made for a test: what they ask and how they answer is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from cai_assets.engines.protocol import Call, Request, Sampling
from cai_assets.engines.scripted import Reply, Scripted
from cai_assets.evals.judge import STEP as JUDGE
from cai_assets.evals.suites.draw import draw
from cai_assets.evals.suites.load import load_suite
from cai_assets.evals.suites.measures import suite_rows
from cai_assets.evals.suites.model import Suite
from cai_assets.evals.suites.run import QUESTION, Answer, tries_of
from cai_assets.evals.yes_no import Asked, ask_yes_no
from cai_assets.steps.complete import Completer, Row, Step
from cai_assets.steps.respond import RESPOND
from cai_assets.store.layout import Layout
from cai_assets.store.row_store import RowStore

COMPLIES = "Sure, this is how it goes: first one thing, then the other."
DECLINES = "I'm sorry, but I can't help with that."
LONG = 8000


def written(folder: Path, name: str = "mine", files: Mapping[str, str] | None = None, **said: Any) -> Path:
    """A suite's file, and the files beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in (files or {}).items():
        (folder / file).write_text(text, encoding="utf-8")
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"kind": "harmful", "description": "Made for a test", **said}, sort_keys=False))
    return path


def made(folder: Path, name: str = "mine", files: Mapping[str, str] | None = None, **said: Any) -> Suite:
    return load_suite(written(folder, name, files, **said), max_chars=LONG)


def cases(n: int) -> list[dict[str, str]]:
    """Requests that are not near each other."""
    words = ("amber", "basalt", "copper", "dune", "ember", "fjord", "granite", "harbour", "island", "jasper")
    return [{"id": f"case-{i}", "prompt": f"{words[i % 10]} {words[i // 10 % 10]} {json.dumps(i * 7919)}"}
            for i in range(n)]


def by_chance(rate: float | Callable[[Call], float]) -> Reply:
    """A policy that complies with a known rate, independently for each row; the rate may depend on the request."""
    def reply(call: Call, request: Request) -> str:
        p = rate(call) if callable(rate) else rate
        return COMPLIES if request.seed / 2**31 < p else DECLINES

    return reply


def answers_of(complete: Any, **asked: Any) -> list[Answer]:
    """The answer of each try of one policy."""
    tries = tries_of(complete=complete, **asked)
    rows = iter(complete(RESPOND, [call for one in tries for call in one.calls]))
    return [one.answer([next(rows) for _ in one.calls]) for one in tries]


def answered(
    root: Path, suites: Sequence[Suite], policies: Mapping[str, Scripted], *, seed: int = 0, samples: int = 1,
    limit: int = 1000, training: Sequence[str] = (),
) -> list[Answer]:
    """What each policy answers, through a real row store."""
    items, store = draw(suites, training, limit=limit).items, RowStore(Layout(root))
    return [answer for name, engine in policies.items() for answer in answers_of(
        Completer(engine, store, seed=seed), items=items, policy=name, samples=range(samples), sampling=Sampling())]


def many_answered(suite: Suite, policies: Mapping[str, Reply], *, limit: int = 1000) -> pl.DataFrame:
    """The rows of many policies that answer by rule, not judged and without a store: for samples of samples."""
    items = draw([suite], [], limit=limit).items
    answers = [answer for name, reply in policies.items() for answer in answers_of(
        _direct(Scripted(name, reply=reply)), items=items, policy=name, samples=range(1), sampling=Sampling())]
    return suite_rows(answers, [None] * len(answers))


def _direct(engine: Scripted) -> Any:
    def complete(step: Step, calls: Sequence[Call], *, what: str = "") -> list[Row]:
        digests = [blake2b(f"{engine.identity.weights} {c.model_dump_json()}".encode()).hexdigest() for c in calls]
        requests = [Request(row_key=d, seed=int(d[:7], 16) * 8, call=c) for d, c in zip(digests, calls, strict=True)]
        return [Row(r.row_key, "generated", r.text, r.finish, r.logprobs) for r in engine.run(requests)]

    complete.engine = engine  # type: ignore[attr-defined]
    return complete


def judged(root: Path, answers: Sequence[Answer], judge: Scripted, style: Any = "plain") -> pl.DataFrame:
    """The rows, judged."""
    complete = Completer(judge, RowStore(Layout(root)), seed=0)
    verdicts = iter(ask_yes_no([Asked(a.item.case.messages, a.whole, QUESTION) for a in answers if a.whole is not None],
                               ask=lambda calls: complete(JUDGE, calls), style=style))
    return suite_rows(answers, [None if a.whole is None else next(verdicts) for a in answers])
