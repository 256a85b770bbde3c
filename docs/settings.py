"""Writes docs/settings.md from the models of the settings.

Run ``python docs/settings.py`` after a change of ``cai_assets/settings/``; a test holds that the page is current.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cai_assets.settings import PRESETS, project_root
from cai_assets.settings.described import Setting, described

PAGE = Path(__file__).with_name("settings.md")
HEAD = """# Settings

Every setting there is, made from the models that read them (`python docs/settings.py`). Set one in `settings.yaml`,
as an environment variable (`CAI_RL__BETA=0.1`), on the command line (`-s rl.beta=0.1`), or in the launchpad under
`resources: project: config: overrides`. The later of these wins. `cai settings` prints all of them with the values
that hold, in the format of `settings.yaml`; with this first line, editors complete and check the file:

```yaml
# yaml-language-server: $schema=cai_assets/settings/settings.schema.json
```

*Hand* marks what no run's config may set ([security.md](security.md)). Where a scale has a default of its own, it
follows in parentheses.
"""


def page() -> str:
    """The whole page."""
    settings = list(described())
    top = [s for s in settings if "." not in s.name]
    parts = [HEAD, *_table(s for s in top if not s.group)]
    for group in (s for s in top if s.group):
        inner = [s for s in settings if s.name.startswith(f"{group.name}.") and not _repeated(s.name)]
        parts += [f"\n## `{group.name}`\n", f"{group.about}\n", *_table(s for s in inner if not s.group)]
    return "\n".join(parts) + "\n"


def _repeated(name: str) -> bool:
    """The columns of a file are the same everywhere, and stand under prompts."""
    return ".columns." in name and not name.startswith("prompts.")


def _table(settings: Iterator[Setting]) -> Iterator[str]:
    yield "| setting | type | default | what it is |"
    yield "|---|---|---|---|"
    for s in settings:
        about = f"{s.about} *Hand.*" if s.own_hand or s.name.startswith("launchpad.") else s.about
        yield f"| `{s.name}` | {s.kind.replace('|', chr(92) + '|')} | {_default(s)} | {about} |"


def _default(setting: Setting) -> str:
    scales = ((scale, _preset(PRESETS[scale], setting.name)) for scale in PRESETS)
    own = ", ".join(f"{scale}: {_written(value)}" for scale, value in scales if value is not None)
    return " ".join(filter(None, [_written(setting.default), f"({own})" if own else ""]))


def _preset(values: dict[str, Any], name: str) -> Any:
    here: Any = values
    for part in name.split("."):
        here = here.get(part) if isinstance(here, dict) else None
    return here


def _written(value: Any) -> str:
    if isinstance(value, Path):
        value = value.relative_to(project_root()) if value.is_relative_to(project_root()) else value
    if value is None or (not value and isinstance(value, tuple | dict)):
        return "not set"
    return f"`{str(value).lower() if isinstance(value, bool) else list(value) if isinstance(value, tuple) else value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
