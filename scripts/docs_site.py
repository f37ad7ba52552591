"""mkdocs hook: pages that stand outside docs/ (README, CHANGELOG, the examples') are part of the site, and links fit it.

In the repository a link leads from file to file, and tests/unit/test_docs.py looks at those. In the site a link to a page
leads to the page; one to something that is no page (source code, a run folder) becomes its name.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^( *)```.*?^\1```", re.M | re.S)
log = logging.getLogger("mkdocs.hooks.docs_site")


def outside() -> dict[str, str]:
    """Files and folders of the repository that are pages of the site, by their path → the page's."""
    pages = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
    for readme in sorted(ROOT.glob("examples/*/README.md")):
        folder = readme.parent.name
        pages[f"examples/{folder}/README.md"] = pages[f"examples/{folder}"] = f"examples/{folder}.md"
    return pages


def on_files(files: Files, config: Any) -> Files:
    for source, page in outside().items():
        if source.endswith(".md"):
            files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    named = {str(v) for v in _leaves(config["nav"])}
    sections = {title: pages for item in config["nav"] for title, pages in item.items()}
    for file in files.documentation_pages():
        if file.src_uri not in named:
            title = Path(file.src_uri).stem
            if file.src_uri.startswith("scenarios/"):  # called as on the command line
                sections["Scenarios"].append({title: file.src_uri})
            else:
                sections["Project"].append({title.replace("-", " ").capitalize(): file.src_uri})
    return files


def _leaves(nav: Any) -> list[Any]:
    if isinstance(nav, list):
        return [leaf for item in nav for leaf in _leaves(item)]
    if isinstance(nav, dict):
        return [leaf for item in nav.values() for leaf in _leaves(item)]
    return [nav]


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    here = {v: k for k, v in outside().items() if k.endswith(".md")}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def fitted(match: re.Match[str]) -> str:
        picture, text, link = match.groups()
        if re.match(r"[a-z]+:|#", link):
            return match[0]
        path, hash_, anchor = link.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
        where = outside().get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else "")
        if where and files.get_file_from_path(where):
            return f"{picture}[{text}]({posixpath.relpath(where, posixpath.dirname(page.file.src_uri) or '.')}{hash_}{anchor})"
        if not (ROOT / target).exists():
            log.warning(f"{here}: the link to {link} leads nowhere")
        return text

    parts, at = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(fitted, markdown[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, LINK.sub(fitted, markdown[at:])])
