"""The pictures of the task pages: ``python docs/screenshots.py [--url http://127.0.0.1:3000] [--only NAME]``.

Needs ``cai ui`` running on an instance with at least two materialized versions of a constitution, and Chromium; with
``--effect PAGE``, the page that ``benchmarks/effect.py --data`` names and no server, for the README's first picture.
Each picture is one part of a Dagster page, of the report page of the newest version, or of the newest comparison, at
a fixed width; they go to ``docs/images/``. Run it again after a change of what the pages show, and look at
every picture.
"""

from __future__ import annotations

import argparse
import json
import shutil
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

IMAGES = Path(__file__).parent / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
WIDTH, HEIGHT = 1500, 1000
LEFT = 240  # the navigation of Dagster's pages


class Shot(NamedTuple):
    """``path``: on the server, or a file. ``ready``: a text to wait for. ``keys``: pressed once it is there. ``top``:
    scroll to this text first."""

    name: str
    path: str
    ready: str
    top: str = ""
    height: int = 760
    width: int = WIDTH
    left: int = LEFT
    keys: str = ""


def shots(url: str) -> Iterator[Shot]:
    """Every picture, for the newest materialized version that has a predecessor."""
    version = newest(url)
    run = runs_of(url, version)[0]

    def partition(asset: str) -> str:
        return f"/assets/{asset}?view=partitions&partition={version}"

    yield Shot("graph", "/asset-groups", "reinforcement", keys="Alt+KeyE", height=HEIGHT, width=1900, left=540)
    yield Shot("versions", "/assets/constitution?view=partitions", version)
    yield Shot("constitution", partition("constitution"), "plan", top="changes", height=900)
    yield Shot("run", f"/runs/{run}", "Success")
    yield Shot("critiques", partition("critiques"), "Metadata", top="Metadata")
    yield Shot("evaluation", partition("evaluation"), "headline", top="Metadata")
    yield Shot("suites", partition("suite_results"), "headline", top="Metadata")
    yield Shot("attribution", partition("attribution"), "Metadata", top="Metadata")
    yield Shot("checkpoint", partition("rl_policy"), "trace", top="Metadata", height=950)
    yield Shot("over-versions", "/assets/evaluation?view=plots", "rl_policy")
    yield Shot("comparison", "/assets/comparison", "Metadata", top="Metadata")
    for name, asset, of in (("report", "report", [version]), ("compare", "comparison", [])):
        if page := metadata_path(url, asset, of):
            yield Shot(name, f"file://{page}", "", height=1000)


def effect(page: Path) -> Shot:
    """What a principle changed: the differences of the policies."""
    return Shot("effect", page.absolute().as_uri(), "", top="Policies on the same prompts", height=640, width=1100)


def take(url: str, chosen: Iterable[Shot]) -> Iterator[Path]:
    """Take the pictures; yield where each one lies."""
    from playwright.sync_api import sync_playwright

    browser_path = next(p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browser_path, args=FLAGS)
        for shot in chosen:
            page = browser.new_page(viewport={"width": shot.width, "height": HEIGHT})
            yield _picture(page, url, shot)
            page.close()
        browser.close()


def _picture(page: Any, url: str, shot: Shot) -> Path:
    path, whole = IMAGES / f"{shot.name}.png", shot.path.startswith("file:")
    page.goto(shot.path if whole else url + shot.path)
    if shot.ready:
        page.get_by_text(shot.ready).first.wait_for(timeout=60_000)
    page.wait_for_timeout(2_500)  # graphs and tables settle after their texts are there
    if shot.keys:
        page.keyboard.press(shot.keys)
        page.wait_for_timeout(5_000)
    if shot.top:
        page.get_by_text(shot.top, exact=True).last.evaluate("e => e.scrollIntoView({block: 'start'})")
        page.wait_for_timeout(500)
    left = 0 if whole else shot.left
    page.screenshot(path=path, clip={"x": left, "y": 0, "width": shot.width - left, "height": min(shot.height, HEIGHT)})
    return path


def newest(url: str) -> str:
    """The newest version whose evaluation was made, among names that have two of them if there are any."""
    asked = ('{ assetNodeOrError(assetKey: {path: ["evaluation"]}) { ... on AssetNode { '
             "assetMaterializations(limit: 100) { partition timestamp } } } }")
    made = graphql(url, asked)["assetNodeOrError"]["assetMaterializations"]
    versions = list(dict.fromkeys(m["partition"] for m in sorted(made, key=lambda m: -float(m["timestamp"]))))
    names = [v.rsplit("-", 2)[0] for v in versions]
    return next((v for v, name in zip(versions, names, strict=True) if names.count(name) > 1), versions[0])


def runs_of(url: str, version: str) -> list[str]:
    """Ids of the runs of a version that succeeded, newest first."""
    asked = ("query($v: String!) { runsOrError(filter: {statuses: [SUCCESS], "
             'tags: [{key: "dagster/partition", value: $v}]}) { ... on Runs { results { runId } } } }')
    return [r["runId"] for r in graphql(url, asked, v=version)["runsOrError"]["results"]]


def metadata_path(url: str, asset: str, versions: list[str]) -> str:
    """The file that an asset's newest materialization (of these versions, if any) names as its page, or nothing."""
    asked = ("query($a: AssetKeyInput!, $v: [String!]) { assetNodeOrError(assetKey: $a) { ... on AssetNode { "
             "assetMaterializations(partitions: $v, limit: 1) { metadataEntries { label "
             "... on PathMetadataEntry { path } } } } } }")
    node = graphql(url, asked, a={"path": [asset]}, v=versions or None)["assetNodeOrError"]
    made = node.get("assetMaterializations") or []
    return next((e["path"] for m in made for e in m["metadataEntries"] if e["label"] == "page"), "")


def graphql(url: str, query: str, **variables: Any) -> Any:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(url + "/graphql", body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return json.load(response)["data"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--only", default="")
    parser.add_argument("--effect", type=Path)
    arguments = parser.parse_args()
    chosen = [effect(arguments.effect)] if arguments.effect else [
        shot for shot in shots(arguments.url) if arguments.only in ("", shot.name)]
    for path in take(arguments.url, chosen):
        print(path)


if __name__ == "__main__":
    main()
