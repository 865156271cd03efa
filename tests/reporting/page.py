"""Reading a page as a browser would, enough to find what must not be in it."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

from kanlens.reporting._report import FOLDER

OWN = (FOLDER / "page.js").read_text("utf-8")
VOID = {"meta", "br", "link", "img", "hr", "input"}
LINKS = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "formaction"}


class Page(HTMLParser):
    """Elements, ids, links and texts of a page; complains about tags that do not match."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source, self.open = source, list[str]()
        self.tags, self.texts = list[tuple[str, dict[str, str]]](), list[str]()
        self.unbalanced, self.styles = list[str](), list[str]()
        self.scripts = list[str]()
        self.feed(source)
        self.close()
        self.unbalanced += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append((tag, values))
        self.styles.append(values.get("style", ""))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            (self.styles if self.open and self.open[-1] == "style" else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def of(self, tag: str) -> list[dict[str, str]]:
        return [values for name, values in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [values["id"] for _, values in self.tags if "id" in values]

    def foreign(self) -> list[str]:
        """List whatever would make a browser ask for something outside the page, or run it.

        Scripts are foreign but for data, and for the page's own where a policy lets no other run.
        """
        found = [name for name, _ in self.tags if name in {"iframe", "object", "link"}]
        policy = " ".join(one["content"] for one in self.of("meta") if "http-equiv" in one)
        for values, text in zip(self.of("script"), self.scripts, strict=True):
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            own = values == {} and text.endswith(OWN) and f"script-src 'sha256-{digest}'" in policy
            if not own and values != {"type": "application/json", "id": "panel"}:
                found.append("script")
        for _, values in self.tags:
            for name, value in values.items():
                if name in LINKS and not value.startswith(("#", "data:image/png;base64,")):
                    found.append(value)
                if name.startswith("on"):
                    found.append(name)
        for style in self.styles:
            found += re.findall(r"@import|url\((?!['\"]?#)[^)]*\)", style)
        return found
