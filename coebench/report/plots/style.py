"""How plots look: one set of rules, with colours for light, for dark, or as variables that a page sets."""

from __future__ import annotations

from collections.abc import Mapping

COLOURS = 8  # then they begin anew

# Of Okabe and Ito's palette, which people who see colours differently can tell apart, darkened or brightened to 3 : 1 at
# least against the ground. The shape of the marks tells the first four apart without any colour.
_SUBJECTS = {
    "light": ("#0072b2", "#cc5200", "#00845f", "#a3479b", "#8f6a00", "#2f86b8", "#7a5230", "#56606b"),
    "dark": ("#56b4e9", "#ff9153", "#3dd6a3", "#e28bc7", "#f0c040", "#a5d6ff", "#d0a878", "#b8c2cc"),
}
_GROUND = {
    "light": {"ink": "#1b2129", "soft": "#59636e", "grid": "#dfe3e8", "ground": "#ffffff", "cell": "#0072b2"},
    "dark": {"ink": "#e8edf2", "soft": "#9aa5b1", "grid": "#303842", "ground": "#14181d", "cell": "#56b4e9"},
}

_RULES = """
.plot text{{font:12px {font};fill:{ink}}}
.plot .m{{fill:{soft}}}
.plot .b{{font-weight:600}}
.plot .h{{font-size:18px;font-weight:600}}
.plot .e{{text-anchor:end}}
.plot .c{{text-anchor:middle}}
.plot .g{{stroke:{grid};stroke-width:1;fill:none}}
.plot .k{{stroke:{soft};stroke-width:1;stroke-dasharray:2 3;fill:none}}
.plot .l{{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}}
.plot .f{{stroke-width:1;opacity:.35}}
.plot .d{{stroke-dasharray:6 4}}
.plot .w{{fill:none;stroke:currentColor;stroke-width:5;opacity:.3}}
.plot .p{{fill:currentColor}}
.plot .q{{fill:currentColor;opacity:.55}}
.plot .o{{fill:{ground};stroke:currentColor;stroke-width:1.5}}
.plot .s0{{fill:currentColor;opacity:.2}}
.plot .s1{{fill:currentColor;opacity:.45}}
.plot .s2{{fill:currentColor;opacity:.7}}
.plot .s3{{fill:currentColor;opacity:.95}}
.plot .x{{fill:{cell}}}
.plot .n{{fill:none;stroke:{grid}}}
.plot .z{{fill:{ground}}}
.plot .y{{color:{soft}}}
"""


def rules(theme: str = "") -> str:
    """CSS for pictures: of "light" or "dark" with colours in it, or, without a theme, with a page's variables."""
    if theme:
        words: Mapping[str, str] = _GROUND[theme] | {"font": "'Source Sans Pro','DejaVu Sans',Verdana,sans-serif"}
        subjects: tuple[str, ...] = _SUBJECTS[theme]
    else:
        words = {k: f"var(--{k})" for k in _GROUND["light"]} | {"font": "system-ui,'DejaVu Sans',sans-serif"}
        subjects = tuple(f"var(--c{i})" for i in range(COLOURS))
    return _RULES.format(**words) + "\n".join(f".plot .c{i}{{color:{c}}}" for i, c in enumerate(subjects)) + "\n"


def variables(theme: str) -> str:
    """The declarations of a page's variables."""
    words = _GROUND[theme] | {f"c{i}": c for i, c in enumerate(_SUBJECTS[theme])}
    return "".join(f"--{k}:{v};" for k, v in words.items())


_NARROW, _WIDE = frozenset("iljtfrI.,:;|!'()[] "), frozenset("mwMWO@%QGDHNUCKRABS—…×")


def measure(text: str, size: float = 12) -> float:
    """About how wide a text is, in px, rather too much than too little: the reader's font is not known."""
    return size * sum(0.4 if c in _NARROW else 0.86 if c in _WIDE else 0.62 for c in text)


def cut(text: str, width: float, size: float = 12) -> str:
    """A text that fits, with an ellipsis where it had to be cut."""
    if measure(text, size) <= width:
        return text
    while text and measure(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def wrap(text: str, width: float, size: float = 12) -> list[str]:
    """Lines of whole words that fit."""
    lines: list[str] = []
    for word in text.split():
        if lines and measure(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(cut(word, width, size))
    return lines
