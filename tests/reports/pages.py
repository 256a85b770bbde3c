"""Reads a report page as a browser and a screen reader would."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

FOREIGN = {"script", "img", "link", "iframe", "object", "embed", "form"}
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """``tags``: every element with its attributes; ``text``: what is read; ``headings``: (level, text)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.tags, self.headings = html, list[tuple[str, dict[str, str | None]]](), list[tuple[int, str]]()
        self._open: list[str] = []
        self._parts: list[str] = []
        self.problems: list[str] = []
        self.feed(html)
        if self._open:
            self.problems.append(f"left open: {self._open}")

    @property
    def text(self) -> str:
        return re.sub(r"[\s ]+", " ", " ".join(self._parts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self._parts.append(data)
        if self._open and re.fullmatch(r"h[1-6]", self._open[-1]):
            level, said = self.headings[-1]
            self.headings[-1] = (level, said + data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def faults(html: str) -> list[str]:
    """What keeps a page from being self-contained, safe and readable by everybody; empty if nothing does."""
    page = Page(html)
    found = list(page.problems)
    found += [f"<{tag}>" for tag, _ in page.tags if tag in FOREIGN]
    found += [f"{tag} {name}={value}" for tag, attributes in page.tags for name, value in attributes.items()
              if name.startswith("on") or (name in {"href", "src", "xlink:href", "action"}
                                           and not str(value).startswith("#"))]
    ids = [str(a["id"]) for _, a in page.tags if "id" in a]
    found += [f"id {i} twice" for i in set(ids) if ids.count(i) > 1]
    found += [f"no target {a['href']}" for a in page.of("a") if str(a["href"])[1:] not in ids]
    found += [f"no such label: {a['aria-labelledby']}" for _, a in page.tags
              if "aria-labelledby" in a and a["aria-labelledby"] not in ids]
    levels = [level for level, _ in page.headings]
    found += [f"heading h{b} after h{a}" for a, b in pairwise(levels) if b > a + 1]
    found += ["not one h1"] if levels.count(1) != 1 else []
    found += ["an empty heading"] if any(not said.strip() for _, said in page.headings) else []
    found += ["a table without a caption"] if len(page.of("table")) != len(page.of("caption")) else []
    found += ["a figure without a label"] if any(not f.get("aria-label") for f in page.of("figure")) else []
    found += ["a figure without a caption"] if len(page.of("figure")) != len(page.of("figcaption")) else []
    found += ["a drawing that a screen reader reads"] if any(s.get("aria-hidden") != "true" for s in page.of("svg")) \
        else []
    found += ["a region that scrolls and no key reaches"] if any(
        a.get("class") == "wide" and a.get("tabindex") != "0" for a in page.of("div")) else []
    found += ["no language"] if page.of("html") != [{"lang": "en"}] else []
    found += ["url( in the style"] if "url(" in html.split("</style>", maxsplit=1)[0] else []
    found += ["a character that cannot be seen"] if "\u202e" in html else []
    return found
