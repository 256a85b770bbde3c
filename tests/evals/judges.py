"""Judges that answer by rule, so that the right verdict is known."""

import math
import re
from collections.abc import Callable, Sequence

from cai_assets.engines.protocol import Call
from cai_assets.evals.judge import Ask
from cai_assets.steps.complete import Row

Rule = Callable[[str, str, str], float]  # (question, answer A, answer B) -> probability of A


def parts(call: Call) -> tuple[str, str, str]:
    """Question, answer A and answer B, read from the frame lines alone, as column 0 shows them."""
    text = "\n".join(m["content"] for m in call.messages if m["role"] == "user")
    last = text[text.rindex("\nQuestion:\n") :]
    found = re.findall(r"^(Question|Answer \(A\)|Answer \(B\)):\n((?: {4}.*\n?)+)", last, re.MULTILINE)
    assert [name for name, _ in found] == ["Question", "Answer (A)", "Answer (B)"]
    question, a, b = ("\n".join(line[4:] for line in body.rstrip("\n").split("\n")) for _, body in found)
    return question, a, b


def ask_by(rule: Rule, fails: Callable[[str, str], bool] = lambda a, b: False) -> Ask:
    """An ``ask`` whose judge follows ``rule``; a call for which ``fails`` is true comes back as failed."""

    def ask(calls: Sequence[Call]) -> list[Row]:
        rows = []
        for i, call in enumerate(calls):
            assert call.answers == ("A", "B")
            question, a, b = parts(call)
            p = min(max(rule(question, a, b), 1e-9), 1 - 1e-9)
            row = Row(f"row:{i}", "generated", "", "score", (math.log(p) - 3, math.log(1 - p) - 3))
            failed = Row(row.row_key, "failed", None, error="no memory")
            rows.append(failed if fails(a, b) else row)
        return rows

    return ask


def prefers(word: str) -> Rule:
    """The answer with ``word`` wins; without a difference it is even."""
    return lambda question, a, b: 0.5 + 0.4 * ((word in a) - (word in b))


def first_wins(question: str, a: str, b: str) -> float:
    return 0.9
