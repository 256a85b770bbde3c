"""A picture of a terminal: ``python docs/terminal.py docs/images/NAME.svg "cai diff A B" "cai plan B" ...``.

Runs the commands one after the other where it is started, with its environment, and draws what they print. A command
that fails ends it, and no picture is made. ``--lines``: of each output at most so many, then an ellipsis.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 110
# Rich's own drawing without its fonts, which a browser would load from elsewhere.
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px;
line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def drawn(commands: list[str], lines: int) -> str:
    """The picture as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    environment = {**os.environ, "COLUMNS": str(WIDTH), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    for command in commands:
        console.print(Text(f"$ {command}", style="bold"))
        done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True,  # noqa: S602 - typed
                              check=False)
        if done.returncode:
            raise SystemExit(f"{command}: {done.stderr or done.stdout}")
        shown = done.stdout.rstrip().splitlines()
        console.print(Text.from_ansi("\n".join(shown[:lines] + ["…"] * (len(shown) > lines)) + "\n"))
    return console.export_svg(title="", code_format=SVG)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("commands", nargs="+")
    parser.add_argument("--lines", type=int, default=30)
    arguments = parser.parse_args()
    arguments.picture.write_text(drawn(arguments.commands, arguments.lines), encoding="utf-8")


if __name__ == "__main__":
    main()
