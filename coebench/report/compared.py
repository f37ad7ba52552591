"""A diff of two runs, set for a terminal and as Markdown. JSON is the diff itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from ..results.diff import BETTER, SAME, UNKNOWN, WORSE, Change, Diff
from ..results.model import Values
from . import words
from .markdown import escape
from .words import clean

SIGNS = {BETTER: "▲", WORSE: "▼", SAME: "=", UNKNOWN: "?"}
STYLES = {BETTER: "green", WORSE: "bold red", SAME: "", UNKNOWN: "dim"}


def sentence(d: Diff) -> str:
    """The diff as one would tell it."""
    counts = {v: sum(c.verdict == v and not c.claim_of for c in d.changes) for v in (WORSE, BETTER, SAME, UNKNOWN)}
    said = [
        f"{n} {'can not be told' if v == UNKNOWN else f'the same within {100 * d.margin:.0f} %' if v == SAME else v}"
        for v, n in counts.items()
        if n
    ]
    chance = f" Chance alone may call {d.chance:.2g} of them better or worse." if d.chance >= 0.1 else ""
    return f"Of {sum(counts.values())} figures {words.listing(said)}.{chance}"


def figures(c: Change) -> tuple[str, str, str]:
    """Before, after, and how many times as much, as text."""
    shown = [x for v in (c.a, c.b) if (x := v.median if v.median is not None else v.above) is not None]
    scale = words.scale(c.unit, shown)
    unit = "" if scale.unit in ("", "1") else f" {scale.unit}"
    before, after = (_figure(v, scale.factor, unit) for v in (c.a, c.b))
    if c.ratio is not None:
        ratio = f"{words.times(c.ratio)}×"
        if c.high is not None:
            ratio += f" ({words.times(c.low or 0.0, c.ratio)}–{words.times(c.high, c.ratio)})"
    elif c.low and c.reason == "":
        ratio = f"at least {words.times(c.low)}×"
    else:
        ratio = ""
    return before, after, ratio


def _figure(v: Values, factor: float, unit: str) -> str:
    lost = words.trouble(v)
    if v.median is not None:
        text = f"{'≥' if v.lower_bound else ''}{words.number(v.median * factor)}{unit}"
    elif v.above is not None and v.n:
        text = f">{words.number(v.above * factor)}{unit}"
    else:
        text = "–"
    return f"{text} ({lost})" if lost else text


def what(c: Change) -> str:
    """The row's name and setting."""
    setting = words.setting(c.factors)
    return clean(c.title) + (f", {setting}" if setting else "")


def who(c: Change) -> str:
    """The subject, with its new name if that is another."""
    return clean(c.subject) if c.subject == c.other else clean(f"{c.subject} → {c.other}")


def lines_of(d: Diff) -> list[tuple[str, list[str]]]:
    """What is under the figures: heading → lines."""
    kinds = {
        "What differs in what was compared": [f for f in d.differences if f.kind == "subject"],
        "Compared nonetheless": [f for f in d.differences if f.bars and not _left_out(d, str(f))],
        "Differs too": [f for f in d.differences if f.kind == "remark"],
    }
    out = [
        (heading, [clean(f"{f.where}: {_short(f.a)} → {_short(f.b)}") for f in found])
        for heading, found in kinds.items()
        if found
    ]
    if d.left_out:
        out.append(("Left out", [clean(x) for x in d.left_out]))
    reasons: dict[str, list[str]] = {}
    told = [c for c in d.changes if not c.claim_of]
    for c in told:
        if c.reason and c.reason != "the interval holds both":
            reasons.setdefault(f"{c.verdict}: {c.reason}", []).append(f"{who(c)} {clean(c.scenario)} {what(c)}")
    if reasons:
        out.append(
            (
                "Why",
                [clean(f"{_some(x, len(told))}: {r}") for r, x in reasons.items()],
            )
        )
    return out


def _some(names: list[str], of: int) -> str:
    if len(names) == of > 3:
        return "all figures"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")


def _left_out(d: Diff, text: str) -> bool:
    return any(text in x for x in d.left_out)


def _short(text: str) -> str:
    return text if len(text) <= 90 else f"{text[:89]}…"


def _title(d: Diff) -> str:
    return f"{clean(d.b.id)} ({_when(d.b.started)}) against {clean(d.a.id)} ({_when(d.a.started)})"


def _when(iso: str) -> str:
    return clean(iso[:16].replace("T", " ")) or "no date"


def markdown(d: Diff) -> Iterator[str]:
    """GitHub-flavoured Markdown, by line."""
    yield f"## {escape(_title(d))}"
    yield ""
    if d.gates:
        yield from (f"- {'✅' if g.passed else '❌'} {escape(clean(g.text))}: {escape(clean(g.reason))}" for g in d.gates)
        yield ""
    yield escape(sentence(d))
    yield ""
    for scenario in dict.fromkeys(c.scenario for c in d.changes):
        yield f"### {escape(clean(scenario))}"
        yield ""
        yield "| | | before | after | ratio | verdict |"
        yield "|:--|:--|:--|:--|:--|:--|"
        for c in d.changes:
            if c.scenario == scenario:
                before, after, ratio = map(escape, figures(c))
                verdict = f"{SIGNS[c.verdict]} {c.verdict}"
                verdict = f"**{verdict}**" if c.verdict in (BETTER, WORSE) and not c.claim_of else verdict
                name = escape(what(c))
                name = f"<sub>{name}</sub>" if c.claim_of else name
                yield f"| {name} | {escape(who(c))} | {before} | {after} | {ratio} | {verdict} |"
        yield ""
    for heading, lines in lines_of(d):
        yield f"**{heading}**"
        yield ""
        yield from (f"- {escape(line)}" for line in lines)
        yield ""


def terminal(d: Diff, out: TextIO, width: int | None = None) -> None:
    """Tables that fit the terminal; 80 columns where there is none."""
    console = Console(file=out, width=width, markup=False, emoji=False, highlight=False)
    plain = console.options.ascii_only
    with console.capture() as captured:
        for part in _parts(d, plain, console.width):
            console.print(part)
    text = captured.get()
    out.write(text if console.is_terminal else "".join(f"{line.rstrip()}\n" for line in text.splitlines()))


def _parts(d: Diff, plain: bool, width: int) -> Iterator[RenderableType]:
    def t(text: str, style: str = "") -> Text:
        return Text(text.translate(_ASCII) if plain else text, style)

    yield t(_title(d), "bold")
    yield t(sentence(d))
    yield Text()
    for scenario in dict.fromkeys(c.scenario for c in d.changes):
        grid = Grid(box=box.ASCII2 if plain else box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        grid.add_column(t(clean(scenario)), overflow="fold", ratio=1)
        for head in ("", "before", "after", "ratio", ""):
            grid.add_column(t(head), overflow="fold", no_wrap=width >= 100)
        last = ""
        for c in d.changes:
            if c.scenario == scenario:
                name = what(c)
                style = "dim" if c.claim_of else STYLES[c.verdict]
                cells = [t(x, "dim" if c.claim_of else "") for x in figures(c)]
                shown = t("" if name == last else name, "dim" if c.claim_of else "")
                grid.add_row(
                    Padding(shown, (0, 0, 0, 2 if c.claim_of else 0)),
                    t(who(c)),
                    *cells,
                    t(f"{SIGNS[c.verdict]} {c.verdict}", style),
                )
                last = name
        yield grid
        yield Text()
    for heading, lines in lines_of(d):
        yield t(heading, "bold")
        for line in lines:
            yield Padding.indent(t(line), 2)
        yield Text()


_ASCII = str.maketrans({"▲": "+", "▼": "-", "→": "->", "–": "-", "≥": ">=", "×": "x", "µ": "u", "…": "..."})
