"""Settings by what the files that they name hold, and never by where these lie.

Guarantee: two settings that name files and folders of equal contents are equal, whatever the paths. A record keeps the
digests (``contents``); of one from before it did, a path is told by its last part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from cai_assets.assets import EVERY
from cai_assets.engines.models import identify, identify_tokenizer
from cai_assets.settings import Settings
from cai_assets.settings.places import Place, places
from cai_assets.store.canonical import digest_lines
from cai_assets.store.file_digests import FileDigests, remembered
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record

RECORDED = frozenset(group for asset in EVERY for group in asset.settings)  # in any record
CONTENTS = "contents"  # in a record's details
Contents = Mapping[str, Mapping[str, str]]  # by setting: the digest of each file, by its name


class Named(NamedTuple):
    """Settings as JSON has them, and what the files hold that they name."""

    settings: Mapping[str, Any]
    contents: Contents


def of_record(record: Record) -> Named:
    """The settings that something was made with."""
    return Named(record.settings, record.details.get(CONTENTS, {}))


def of_settings(settings: Settings, layout: Layout, groups: Collection[str] = RECORDED) -> Named:
    """The present settings, and the contents of what these groups name. Digests of unchanged files are remembered."""
    found = [*places(settings.model_dump(mode="json", include=set(groups)))]
    with remembered(layout) as digest:
        files = {place.setting: _files(place, digest) for place in found if not place.model}
    models = {place.setting: _model(place, layout) for place in found if place.model}
    return Named(settings.model_dump(mode="json"), files | {setting: held for setting, held in models.items() if held})


def comparable(before: Named, now: Named) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both settings with words in place of paths: the same words where nothing changed but the place."""
    old, new = ({place.setting: place for place in places(side.settings)} for side in (before, now))
    words = {s: _words(old[s], new[s], before.contents.get(s), now.contents.get(s)) for s in old.keys() & new.keys()}
    told = [{s: _names(place) for s, place in side.items()} | {s: w[i] for s, w in words.items()}
            for i, side in enumerate((old, new))]
    return _replaced(before.settings, told[0]), _replaced(now.settings, told[1])


def change(setting: str, before: Any, now: Any) -> str:
    """'critique.rounds: 2 -> 4', or 'prompts.paths: house.jsonl changed'."""
    return f"{setting}: {now}" if now == _changed(str(before)) else f"{setting}: {before} -> {now}"


def _words(old: Place, new: Place, before: Mapping[str, str] | None, now: Mapping[str, str] | None) -> tuple[str, str]:
    if before is None or now is None:
        return _names(old), _names(new)
    if sorted(before.values()) == sorted(now.values()):
        return _names(new), _names(new)
    gone = [name for name, digest in before.items() if now.get(name) != digest]
    come = [_changed(name) if name in before else name for name, digest in now.items() if before.get(name) != digest]
    return ", ".join(gone) or "nothing", ", ".join(come) or "nothing"


def _changed(name: str) -> str:
    return f"{name} changed"


def _names(place: Place) -> str:
    """Without folders; what may be a name on the Hub stays whole."""
    local = not place.model or place.paths[0].startswith(("/", ".", "~"))
    return ", ".join(PurePath(path).name if local else path for path in place.paths)


def _replaced(value: Any, words: Mapping[str, str], at: str = "") -> Any:
    if at in words:
        return words[at]
    if isinstance(value, Mapping):
        return {name: _replaced(item, words, f"{at}.{name}" if at else name) for name, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, words, f"{at}.{i}") for i, item in enumerate(value)]
    return value


def _files(place: Place, digest: FileDigests) -> dict[str, str]:
    """Of two files of one name a digest of both."""
    found: dict[str, list[str]] = {}
    for path in map(Path, place.paths):
        for name, file in _inside(path):
            found.setdefault(name, []).append(digest(file))
    return {name: one[0] if len(one) == 1 else digest_lines("files", one) for name, one in found.items()}


def _inside(path: Path) -> Iterator[tuple[str, Path]]:
    """A file, or the files of a folder that are not hidden, with the names they have there; nothing if it is gone."""
    if path.is_file():
        yield path.name, path
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in inside.parts):
            yield f"{path.name}/{inside.as_posix()}", file


def _model(place: Place, layout: Layout) -> dict[str, str]:
    """A model folder's identity, or a tokenizer's; nothing for a name on the Hub, and for what cannot be identified."""
    path = Path(place.paths[0]).expanduser()
    if not path.is_dir():
        return {}
    try:
        what = (identify_tokenizer(path, layout) if place.setting.endswith(".tokenizer")
                else identify(path, layout).model_dump().values())
    except (ValueError, OSError):
        return {}  # said where the model is opened
    return {path.resolve().name: digest_lines("model", map(str, what))}
