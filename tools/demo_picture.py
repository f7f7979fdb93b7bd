"""Runs the demo and draws its output as a terminal window, docs/demo.svg; `make picture` runs it."""

import html
import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (str(Path(sys.executable).with_name("schema-migrator")), "demo")
THEME = TerminalTheme(
    background=(13, 17, 23),
    foreground=(230, 237, 243),
    normal=[
        (110, 118, 129),
        (255, 123, 114),
        (63, 185, 80),
        (210, 153, 34),
        (88, 166, 255),
        (188, 140, 255),
        (57, 197, 207),
        (177, 186, 196),
    ],
)
TEXT = re.compile(
    r'<text class="(?P<style>demo-r\d+)" x="(?P<x>[\d.]+)" y="(?P<y>[\d.]+)" textLength="[^>]*>(?P<text>.*?)</text>'
)
CELL = 12.2
"""The width of a character in Rich's format."""
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
# Rich's format loads its font from the web, which a picture in a page may not do.
FORMAT = re.sub(r"\s*@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code, monospace", FONT
)


def main() -> None:
    """Run the demo and write the picture."""
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"FORCE_COLOR": "1"}
    done = subprocess.run(COMMAND, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    lines = [Text.from_ansi(line) for line in done.stdout.replace(f"{ROOT}/", "").splitlines()]
    width = max(map(len, lines)) + 1
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(line, no_wrap=True, crop=True)
    picture = console.export_svg(title="schema-migrator demo", theme=THEME, code_format=FORMAT, unique_id="demo")
    target = ROOT / "docs" / "demo.svg"
    target.write_text(TEXT.sub(aligned, picture), encoding="utf-8")
    print(f"{target}: {len(lines)} lines of {width} columns")


def aligned(line: re.Match[str]) -> str:
    """Return a text of Rich's word by word, each in its cells: columns stay aligned in any font."""
    text, place = html.unescape(line["text"]).replace("\xa0", " "), float(line["x"])
    return "".join(
        f'<text class="{line["style"]}" x="{place + word.start() * CELL:.1f}" y="{line["y"]}"'
        f' textLength="{len(word[0]) * CELL:.1f}" lengthAdjust="spacingAndGlyphs">{html.escape(word[0])}</text>'
        for word in re.finditer(r"\S+", text)
    )


if __name__ == "__main__":
    main()
