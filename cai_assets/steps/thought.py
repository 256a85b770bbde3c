"""Reasons before a label: chain of thought (Bai et al. 2022, section 4.1; Kojima et al. 2022).

The labeler writes its reasons, then the probability of its answer is read after them. One sample of reasons gives
one probability near 0 or 1; their mean over samples estimates the probability with the reasons averaged out. Reasons
that come out empty are a sample like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from cai_assets.constitution.model import PreferenceShot
from cai_assets.engines.protocol import Call, Sampling
from cai_assets.settings import Labels
from cai_assets.steps.compare import thought_call
from cai_assets.steps.complete import Step
from cai_assets.steps.questions import Question

THOUGHT = Step("thought")


def thought_about(question: Question, settings: Labels, few_shots: Sequence[PreferenceShot]) -> Call:
    """The call for the reasons behind one answer; if it fails, the answer is not asked for."""
    sampling = Sampling(temperature=settings.thought_temperature, max_tokens=settings.thought_tokens)
    return thought_call(question.pair["messages"], *question.shown, request=question.request, style=settings.style,
                        sampling=sampling, sample=question.sample, few_shots=few_shots)
