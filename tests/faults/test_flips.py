"""A flipped bit, or a cut end, in one file of every kind: no later run takes it for what was stored."""

from __future__ import annotations

import random
import re
import shutil
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from dying import nothing, run_apart
from histories import stored
from undisturbed import Undisturbed

from cai_assets.lineage.verify import verify
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import StoreCorrupt
from cai_assets.store.row_store import RowStore, read_shard

READS = 200
SHARES = 8  # of the kinds of files, so that several processes can have some each
Damage = Callable[[Path, random.Random], None]


def kinds(root: Path) -> dict[str, list[Path]]:
    """The files of a data root by kind: the same path but for digests, numbers and versions."""
    found = defaultdict[str, list[Path]](list)
    for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.name.endswith(".lock")):
        name = path.relative_to(root).as_posix()
        found[re.sub(r"[0-9a-f]{16,}|\d{6}|[a-z-]+-v\d+-[0-9a-f]{8}|-[0-9-]{4,}", "*", name)].append(path)
    return dict(found)


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    _write(path, bytes(data))


def cut(path: Path, rng: random.Random) -> None:
    _write(path, path.read_bytes()[:rng.randrange(path.stat().st_size)])


def _write(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def damages(undisturbed: Undisturbed, share: int) -> list[tuple[Damage, str]]:
    """The damages of one share: a flipped bit or, of every third kind of file, a cut end."""
    whole = [kind for kind, paths in sorted(kinds(undisturbed.root).items()) if any(p.stat().st_size for p in paths)]
    return [(flip if i % 3 else cut, kind) for i, kind in enumerate(whole)][share::SHARES]


@pytest.mark.long
@pytest.mark.fault("a flipped bit or a cut end in each kind of file, then a whole run")
@pytest.mark.parametrize("share", range(SHARES))
def test_a_run_after_damage_ends_as_before_or_says_what_is_damaged(
    undisturbed: Undisturbed, tmp_path: Path, share: int, record_property: Callable[[str, object], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    rng, every = random.Random(share), damages(undisturbed, share)
    record_property("tried", len(every))
    broke = []
    for damage, kind in every:
        root = Path(shutil.copytree(undisturbed.root, tmp_path / "data"))
        path = rng.choice([p for p in kinds(root)[kind] if p.stat().st_size])
        damage(path, rng)
        if wrong := after(undisturbed, root, path, capfd):
            broke.append(f"{damage.__name__} of {kind}: {wrong}")
        shutil.rmtree(root)
    assert broke == []


def after(undisturbed: Undisturbed, root: Path, path: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """What is wrong with a run after damage to ``path``; empty if nothing is."""
    damaged = path.read_bytes()
    capfd.readouterr()
    failed = run_apart(undisturbed.history, root, nothing)
    said = "".join(capfd.readouterr())
    if failed:
        named = path.name in said or path.parent.name in said
        return "" if named else f"the run failed and named no file: {said[-300:]}"
    if undisturbed.history.digests(root, undisturbed.version) != undisturbed.digests:
        return "another table, and not a word"
    if not undisturbed.rows.items() <= stored(root).items():
        return "another row, and not a word"
    if path.exists() and path.read_bytes() == damaged and not verify(Layout(root)):
        return "'cai verify' finds nothing"
    return ""


@pytest.mark.fault("a flipped bit in the row store, read directly")
def test_no_flipped_bit_is_read_as_a_stored_text(
    undisturbed: Undisturbed, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    rng = random.Random(0)
    root = Path(shutil.copytree(undisturbed.root, tmp_path / "data"))
    shards = sorted((root / "rows").rglob("*.parquet"))
    record_property("tried", READS)
    for _ in range(READS):
        shard = rng.choice(shards)
        intact = shard.read_bytes()
        keys = read_shard(shard, ["row_key"])["row_key"].to_list()
        flip(shard, rng)
        with suppress(StoreCorrupt):
            for key, row in RowStore(Layout(root)).lookup(shard.parent.name, keys).items():
                assert f"{row.text} {row.logprobs}" == undisturbed.rows[key]
        shard.write_bytes(intact)
