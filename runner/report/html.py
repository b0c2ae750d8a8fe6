"""The Markdown report as one self-contained HTML page: pictures inlined, badges coloured, no script, no network."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.report import files
from tasks.documents.words import WORDS as BADGES

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

STATES = ("native", "stand-in", "blocked", "failed", "running", "pending", "confirmed", "refuted", "unknown")


def page(markdown: str, folder: Path, context: Mapping[str, Any], lang: str) -> str:
    """The whole page. `folder` is where the Markdown's links start."""
    from markupsafe import Markup

    reader = parser(folder, lang)
    tokens = reader.parse(markdown)
    sections = anchor(tokens)
    body = reader.renderer.render(tokens[3:], reader.options, {})  # without the title, which the shell has
    return files.render("week.html.j2", body=Markup(body), sections=sections, lang=lang, **context)


def parser(folder: Path, lang: str) -> MarkdownIt:
    """Markdown with tables; raw HTML in a report's text stays text."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    states = badge_states(lang)
    markdown.add_render_rule("image", lambda _, tokens, at, *__: figure(tokens[at], folder))
    markdown.add_render_rule("code_inline", lambda _, tokens, at, *__: code(tokens[at].content, states))
    markdown.add_render_rule("table_open", lambda *_: '<div class="wide"><table>\n')
    markdown.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return markdown


def anchor(tokens: Sequence[Token]) -> list[dict[str, str]]:
    """Give every chapter an id; returns them for the table of contents."""
    sections: list[dict[str, str]] = []
    for at, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            sections.append({"id": f"s{len(sections) + 1}", "title": tokens[at + 1].content})
            token.attrSet("id", sections[-1]["id"])
    return sections


def badge_states(lang: str) -> list[tuple[re.Pattern[str], str]]:
    """How each state is written in that language."""
    return [(re.compile(re.escape(BADGES[lang][state]).replace(r"\{\}", ".*")), state) for state in STATES]


def code(content: str, states: Sequence[tuple[re.Pattern[str], str]]) -> str:
    """Inline code; a tier or a verdict becomes a coloured badge."""
    state = next((state for pattern, state in states if pattern.fullmatch(content)), "")
    if state:
        return f'<span class="badge {state}">{escape(content)}</span>'
    return f"<code>{escape(content)}</code>"


def figure(token: Token, folder: Path) -> str:
    """A picture as part of the page: SVG inline so that it takes the page's colours, PNG as data."""
    source, caption = str(token.attrGet("src") or ""), escape(token.content)
    path = folder / source
    if not path.is_file():
        return f"<em>{caption}</em>"
    if path.suffix == ".svg":
        drawn = path.read_text(encoding="utf-8")
        drawn = re.sub(
            r"<metadata>.*?</metadata>|<style[^>]*>[*:].*?</style>|<\?xml.*?\?>|<!DOCTYPE.*?>", "", drawn, flags=re.S
        )
        return f'<span class="figure" role="img" aria-label="{caption}">{drawn.strip()}</span>'
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<span class="figure"><img alt="{caption}" src="data:image/{path.suffix[1:]};base64,{data}"></span>'
