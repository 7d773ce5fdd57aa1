"""Hooks of MkDocs that make a site of the pages as they are in the repository.

The pages are written for GitHub: they link to files outside docs/, and use GitHub's Markdown. The hooks add these files
to the site, change the links, and change what Python's Markdown reads in another way.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from urllib.parse import unquote

import generated
import github_markdown
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[2]
START, CONTRIBUTING = "README.md", "CONTRIBUTING.md"
OPEN_SECTION = "How-to guides"
IMAGES = (".png", ".jpg", ".svg")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".xml": "xml", ".md": "markdown"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take headings' anchors as GitHub has them, show formulas, and give each page a place in the navigation."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    config.mdx_configs["pymdownx.superfences"] = {
        "custom_fences": [
            {"name": "math", "class": "math", "format": _formula},
            {"name": "mermaid", "class": "flow", "format": _flow},
        ]
    }
    named = set(_named(config.nav))
    section = next(part[OPEN_SECTION] for part in config.nav if OPEN_SECTION in part)
    pages = sorted(path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*.md"))
    section.extend(page for page in pages if page not in named)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages made from the code, README, CONTRIBUTING, and every file that a page links to."""
    for name, text in generated.pages(ROOT).items():
        files.append(File.generated(config, name, content=text))
    waiting = [START, CONTRIBUTING, *(f"docs/{file.src_uri}" for file in files.documentation_pages() if _written(file))]
    added = set(waiting)
    for place in (START, CONTRIBUTING):
        files.append(File.generated(config, _name(place), abs_src_path=str(ROOT / place)))
    while waiting:
        place = waiting.pop()
        for target in sorted(_targets(place, (ROOT / place).read_text("utf-8")) - added):
            added.add(target)
            if target.startswith("docs/") or not (ROOT / target).exists():  # MkDocs warns of what is missing
                continue
            files.append(_file_of_the_project(config, target))
            if target.endswith(".md"):
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to the site's pages, and write lists as Python's Markdown expects them."""
    place = _place(page.file)
    if place is None:
        return markdown

    def lead(target: str) -> str:
        path, hash_sign, anchor = target.partition("#")
        if not path or ":" in path:
            return target
        name = _name(posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(path))))
        return posixpath.relpath(name, posixpath.dirname(page.file.src_uri) or ".") + hash_sign + anchor

    return github_markdown.indent_lists(github_markdown.change_links(markdown, lead))


def _named(part: object) -> list[str]:
    """List the pages that a part of the navigation names."""
    if isinstance(part, str):
        return [part]
    return [name for inner in (part.values() if isinstance(part, dict) else part) for name in _named(inner)]


def _formula(source: str, *_: object, **__: object) -> str:
    """Write a formula as MathML, which browsers show without a script."""
    return f'<div class="formula">{convert(source, display="block")}</div>'


def _flow(source: str, *_: object, **__: object) -> str:
    """Write a flowchart as a list of its arrows: drawing it would take a script of another site."""
    texts = dict(re.findall(r'(\w+)\["([^"]+)"\]', source))
    arrows = re.findall(r'(?m)^ *(\w+)\S*?(?:\["[^"]+"\])? -.*?-> *(\w+)', source)
    items = (f"<li>{texts.get(start, start)}<br>→ {texts.get(end, end)}</li>" for start, end in arrows)
    return f'<ul class="flow">{"".join(items)}</ul>'


def _written(file: File) -> bool:
    return file.generated_by is None


def _place(file: File) -> str | None:
    """Return where a page lies in the repository; None for a page that the hooks made."""
    path = Path(file.abs_src_path).resolve() if file.abs_src_path else None
    return path.relative_to(ROOT).as_posix() if path and path.is_relative_to(ROOT) else None


def _targets(place: str, text: str) -> set[str]:
    """Return the files and folders that a page links to, as places in the repository."""
    found: set[str] = set()

    def note(target: str) -> str:
        path = target.partition("#")[0]
        if path and ":" not in path:
            found.add(posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(path))))
        return target

    github_markdown.change_links(text, note)
    return found


def _name(place: str) -> str:
    """Return the name of the page or file in the site for a place in the repository."""
    if place == START:
        return "index.md"
    if place.startswith("docs/"):
        return place.removeprefix("docs/")
    if place.endswith((".md", *IMAGES)):
        return place
    return f"files/{place}.md"  # a file of code, or a folder: a page that shows it


def _file_of_the_project(config: MkDocsConfig, place: str) -> File:
    """Add a page of Markdown, an image, or a page that shows a file or lists a folder."""
    path = ROOT / place
    if _name(place) == place:
        return File.generated(config, place, abs_src_path=str(path))
    if path.is_dir():
        names = sorted(inner.name + "/" * inner.is_dir() for inner in path.iterdir() if inner.name != "__pycache__")
        content = "\n".join([f"# {place}/", "", *(f"* `{name}`" for name in names)])
        return File.generated(config, _name(place), content=content)
    language = LANGUAGES.get(path.suffix, "text")
    text = path.read_text("utf-8")
    return File.generated(config, _name(place), content=f"# {place}\n\n``````{language}\n{text}\n``````\n")
