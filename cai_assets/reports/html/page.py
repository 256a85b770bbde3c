"""One self-contained HTML file from sections.

Guarantees: no outside address, no script (a policy in the page forbids both); opens from disk; light and dark by the
reader's system; readable on a telephone; every table has a caption and header scopes, every figure a text; what rows
say is escaped by the template engine, and characters that cannot be seen are written out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cai_assets.constitution.diff import opcodes
from cai_assets.evals.power import beside
from cai_assets.evals.statistics import FEW, NOT_SEEN, Estimate, Telling
from cai_assets.reports.escape import visible

MAX_WORDS = 2000  # the comparison is quadratic
_TOKENS = re.compile(r"\s+|[^\s]+")
# What a verdict means to someone who cannot see color.
SIGNS = {"better": "▲", "worse": "▼", "higher": "↑", "lower": "↓", "yes": "✓", "no": "✗", "passed": "✓", "failed": "✗"}
UNTOLD = {NOT_SEEN: "=", "the same responses": "=", FEW: "?", "not measured": "?", "ungraded": "?"}
SMALL = 2  # words that both texts share between two changes; so few are no anchor for a reader
GOOD, BAD = {"better", "yes", "passed"}, {"worse", "no", "failed"}


@dataclass(frozen=True)
class Told:
    """A verdict in a few words, set off by a sign and a color: 'better', 'too few to tell'. ``beside``: what it could
    have found, where it found nothing."""

    word: str
    beside: str = ""

    def __str__(self) -> str:
        return f"{self.word} ({self.beside})" if self.beside else self.word

    @property
    def sign(self) -> str:
        return SIGNS.get(self.word) or UNTOLD.get(self.word, "")

    @property
    def tone(self) -> str:
        return "good" if self.word in GOOD else "bad" if self.word in BAD else "open"


def told_of(verdict: str, difference: Estimate, telling: Telling, *, tests: int = 1) -> Told:
    """The verdict on a difference, with what belongs beside it."""
    return Told(verdict, beside(verdict, difference, telling, tests=tests))


@dataclass(frozen=True)
class Source:
    """Where a figure comes from. ``command`` remakes it; ``rests_on`` names records and counts."""

    command: str = ""
    rests_on: str = ""


NOWHERE = Source()


@dataclass(frozen=True)
class Table:
    """``rows`` hold text, numbers or Told; numbers are aligned right."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    source: Source = NOWHERE


@dataclass(frozen=True)
class Figure:
    """``svg`` is made by ``plots``; ``text`` says how to read it, and ``words`` all that it shows, for those who cannot
    see it; ``reproduce`` is the command that remakes it."""

    svg: str
    caption: str
    text: str
    reproduce: str = ""
    rests_on: str = ""
    words: str = ""

    @property
    def source(self) -> Source:
        return Source(self.reproduce, self.rests_on)


@dataclass(frozen=True)
class Diff:
    """What changed from ``before`` to ``after``, word by word, under a heading."""

    title: str
    before: str
    after: str
    note: str = ""

    def parts(self) -> Iterable[tuple[str, str]]:
        """('equal' | 'delete' | 'insert', text) in reading order."""
        old, new = (_TOKENS.findall(visible(t))[:MAX_WORDS] for t in (self.before, self.after))
        out: list[str] = []
        into: list[str] = []
        spans = opcodes(old, new)
        for place, (op, i1, i2, j1, j2) in enumerate(spans):
            same = op == "equal"
            if same and 0 < place < len(spans) - 1 and len("".join(old[i1:i2]).split()) <= SMALL:
                same = False  # changes with next to nothing between them read better as one
            if same:
                yield from _changed(out, into)
                yield "equal", "".join(old[i1:i2])
                continue
            out += old[i1:i2]
            into += new[j1:j2]
        yield from _changed(out, into)


def _changed(out: list[str], into: list[str]) -> Iterable[tuple[str, str]]:
    """What was gathered of a change, in one piece; gathering restarts."""
    for what, words in (("delete", out), ("insert", into)):
        if words:
            yield what, "".join(words)
            words.clear()


@dataclass(frozen=True)
class Text:
    """A paragraph; ``code`` shows it as a command to copy."""

    text: str
    code: bool = False


@dataclass(frozen=True)
class Passage:
    """A text of a row, as it is, under a heading."""

    title: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class Beside:
    """Two texts beside one another under a heading."""

    title: str
    before: str
    after: str
    note: str = ""


@dataclass(frozen=True)
class Missing:
    """What is not there, and the command that makes it."""

    what: str
    command: str = ""


@dataclass(frozen=True)
class Group:
    """Blocks that belong together, under a heading of their own. ``folded``: closed until it is opened."""

    title: str
    blocks: Sequence[Block]
    folded: bool = False


Block = Table | Figure | Diff | Text | Passage | Beside | Missing | Group


@dataclass(frozen=True)
class Answer:
    """A reader's question with its answer. ``told``: the answer in a word; ``section``: title of what says more."""

    question: str
    text: str
    told: Told | None = None
    section: str = ""

    @property
    def anchor(self) -> str:
        return anchor(self.section)


@dataclass(frozen=True)
class Section:
    """A heading with its blocks. ``folded``: closed until it is opened."""

    title: str
    blocks: Sequence[Block]
    folded: bool = False

    @property
    def anchor(self) -> str:
        return anchor(self.title)


def anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def page(title: str, sections: Sequence[Section], *, summary: Sequence[str] = (), answers: Sequence[Answer] = (),
         footer: str = "") -> str:
    """The whole file. ``summary``: sentences that answer the reader's first question; ``answers``: the next ones."""
    shown = [s for s in sections if s.blocks]
    html: str = _template().render(title=title, sections=shown, summary=summary, answers=answers, footer=footer)
    return html


@cache
def _template() -> Any:
    return environment().get_template("page.html.j2")


def environment(*, package: str = "", folder: str = "templates") -> Any:
    """The templates of pages and blocks, and those of another package: what rows say is escaped, and shown as it is."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loaders = [PackageLoader(package, folder)] if package else []
    made = Environment(loader=ChoiceLoader([*loaders, PackageLoader("cai_assets.reports.html", ".")]), autoescape=True,
                       undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["shown"] = _shown
    made.tests["number"] = lambda v: isinstance(v, int | float) and not isinstance(v, bool)
    made.filters["kind"] = lambda block: type(block).__name__
    return made


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.3g}"
    return visible(str(value))
