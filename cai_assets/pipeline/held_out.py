"""What policies are measured by, and what a model writes to train on must not repeat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cai_assets.engines.protocol import Message
from cai_assets.evals.suites.registry import load_suites
from cai_assets.settings import Settings
from cai_assets.steps.mix import texts_of


def held_out_texts(settings: Settings, prompts: Iterable[Sequence[Message]]) -> Iterator[str]:
    """The normalized texts of the held-out ``prompts``, and of the cases of suites. Raise SuitesError."""
    for messages in prompts:
        yield from texts_of(messages)
    wanted = settings.evaluation
    for suite in load_suites(wanted.suites_folder, wanted.suites, max_chars=settings.prompts.max_chars):
        yield from (case.text for case in suite.cases)
