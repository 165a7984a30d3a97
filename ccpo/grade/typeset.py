"""Answers without typesetting: one spelling for what only looks different. Nothing here changes
what an answer is worth.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-")
_VULGAR = {
    c: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", c).split("\u2044"))
    for c in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
_FONTS = (
    "mathrm|mathbf|mathsf|mathit|mathtt|operatorname\\*?|textbf|textit|textsf|texttt|textnormal|"
    "textrm|mbox|hbox|emph|text"
)
_FUNCTIONS = (
    "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln|log|exp|max|min|gcd|lcm"
)
_SIGNS = {
    "−": "-",
    "–": "-",
    "×": r"\times ",
    "·": r"\cdot ",
    "⋅": r"\cdot ",
    "÷": "/",
    "⁄": "/",
    "π": r"\pi ",
    "θ": r"\theta ",
    "∞": r"\infty ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    "±": r"\pm ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "ℝ": r"\mathbb{R}",
    "⟨": r"\langle ",
    "⟩": r"\rangle ",
    "′": "'",
    "’": "'",
    "，": ",",
    "、": ",",
    "。": ".",
}


def _unnested(match: re.Match[str]) -> str:
    return "\\text{" + match[1].replace("{", "").replace("}", "") + "}"


def _brace(match: re.Match[str]) -> str:
    return "\\{" if "lb" in match[0] else "\\}"


def _arrow(match: re.Match[str]) -> str:
    """An arrow that concludes; one below a limit stays."""
    return f"{match[1]}\\to " if match[1] else "\\Rightarrow "


# (what is written, what is read), in this order
_SPELLINGS: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(str(pattern)), to)  # type: ignore[misc]
    for pattern, to in [
        (r",\s*\\!\s*", ","),
        (r"\{,\}", ","),
        (r"\\(?:[dtc]frac|cfrac)(?![A-Za-z])", r"\\frac"),
        (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        (r"\{\s*([^{}]*?)\s*\\over\s+([^{}]*?)\s*\}", r"\\frac{\1}{\2}"),
        (r"\{\s*([^{}]*?)\s*\\choose\s+([^{}]*?)\s*\}", r"\\binom{\1}{\2}"),
        (r"\\(?:left|right)\s*\\(?:lbrace|rbrace)", _brace),
        (r"\\(?:left|right)\s*\.", ""),
        (
            r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|"
            r"nolimits|bf|it|rm|sf|tt|tiny|small|normalsize|large|Large|LARGE|huge|Huge|bfseries|"
            r"itshape|strut|left|hfill)(?![A-Za-z])",
            "",
        ),
        (r"\\(?:color|textcolor)\s*\{[^{}]*\}\s*\{([^{}]*)\}", r"\1"),
        (r"\\(?:color|hspace|vspace|phantom|label|tag)\*?\s*\{[^{}]*\}", ""),
        (r"\\(?:boldsymbol|bm|pmb|underline|mathstrut|mathbin|ensuremath)\s*\{([^{}]*)\}", r"\1"),
        (r"\\(?:boldsymbol|bm|pmb)(?![A-Za-z])", ""),
        (rf"\\(?:{_FONTS})\s*\{{", r"\\text{"),
        (r"\\text\{((?:[^{}]|\{[^{}]*\})*)\}", _unnested),
        (rf"\\text\{{\s*({_FUNCTIONS})\s*\}}", r"\\\1 "),
        (r"\\text\{\s*\\?([$€£¥₹¢%])\s*\}", r"\1"),
        (r"\\text\{\s*[.,;:!]?\s*\}", ""),
        (r"\\(?:leqslant|leqq|leq)(?![A-Za-z])", r"\\le "),
        (r"\\(?:geqslant|geqq|geq)(?![A-Za-z])", r"\\ge "),
        (r"\\neq(?![A-Za-z])", r"\\ne "),
        (r"\\(?:varnothing|empty)(?![A-Za-z])", r"\\emptyset "),
        (
            r"(_\s*\{[^{}]*?)?\\(?:to|rightarrow|longrightarrow|implies|Longrightarrow)(?![A-Za-z])",
            _arrow,
        ),
        (r"\\(?:mid|vert|lvert|rvert)(?![A-Za-z])|\\vert", "|"),
        (r"\\(?:lbrack)(?![A-Za-z])", "["),
        (r"\\(?:rbrack)(?![A-Za-z])", "]"),
        (r"\\(?:lbrace)(?![A-Za-z])", r"\\{"),
        (r"\\(?:rbrace)(?![A-Za-z])", r"\\}"),
        (r"\\(?:colon)(?![A-Za-z])", ":"),
        (r"\\(?:R|Reals|mathbf\{R\})(?![A-Za-z])", r"\\mathbb{R}"),
        (r"\\(?:pounds|textsterling)(?![A-Za-z])", "£"),
        (r"\\(?:euro|texteuro|EUR)(?![A-Za-z])", "€"),
        (r"\\(?:yen|textyen)(?![A-Za-z])", "¥"),
        (r"\\(?:cents?|textcent)(?![A-Za-z])", "¢"),
        (r"\\textdegree(?![A-Za-z])", "°"),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"<=", r"\\le "),
        (r">=", r"\\ge "),
        (r"\\(?:dot|bar|overline)\s*(\d)", r"\\overline{\1}"),
        (r"√\s*(\d+|[A-Za-z])", r"\\sqrt{\1}"),
        (r"(?<![\\A-Za-z])(?:√|sqrt)\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?<![\\A-Za-z])(pi|theta|infinity)(?![A-Za-z])", r"\\\1 "),
        (r"\\infinity", r"\\infty"),
        (rf"(?<![\\A-Za-z{{])({_FUNCTIONS})(?![A-Za-z])", r"\\\1"),
        (r"\^\s*\{?\s*(?:\\circ|\\degree)\s*\}?|\\degree(?![A-Za-z])|°", r"\\text{degrees}"),
        (r"\\text\{degrees\}\s*(?:\\text\{\s*)?(C|F)(?![A-Za-z])\s*\}?", r"\\text{deg\1}"),
        (r"\^\s*\{\s*\\prime\s*\}|\^\s*\\prime(?![A-Za-z])", "'"),
        (r"\^\s*\{\s*\\prime\s*\\prime\s*\}", "''"),
        (r"\\%", "%"),
        (r"\\\$", "$"),
        (r"\\#", "#"),
        (r"\\(?:checkmark|blacksquare)(?![A-Za-z])|[✓✔■]", ""),
        (r"(?<!\\)\\(?:[!,;:> ]|(?:quad|qquad|thinspace|enspace|medspace)(?![A-Za-z]))|~", " "),
        (r"(?<=[\d\s])(?:\\text\{\s*)?([kMm]?)\s*\}?\s*\\Omega(?![A-Za-z])", r"\\text{ \1Ω}"),
        (r"(?<=[\d\s])\\mu\s*\\text\{\s*", r"\\text{ μ"),
        (r"[\s\u200b\ufeff]+", " "),
    ]
]
_THIN_THOUSANDS = re.compile(
    r"(?<![\d.])(\d{1,3})(?:(?:\\[,;:!]|\\ |~|[\u2009\u202f\u00a0])\d{3})+(?!\d)"
)
_APOSTROPHES = re.compile(r"(?<![\d.'])\d{1,3}(?:['’]\d{3})+(?!\d)")
# What is typeset in no other way.
_PLAIN = re.compile(r"-?[0-9]+(?:\.[0-9]+)?|[A-Za-z]")
_WRAPPERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("`", "`"), ("**", "**"))


def _unicode(text: str) -> str:
    """Superscripts, subscripts and fractions as LaTeX writes them, before NFKC makes plain digits
    of them; then NFKC.
    """
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ]+", lambda m: f"^{{{m[0].translate(_SUPERSCRIPTS)}}}", text)
    text = re.sub(r"[₀₁₂₃₄₅₆₇₈₉₊₋]+", lambda m: f"_{{{m[0].translate(_SUBSCRIPTS)}}}", text)
    text = "".join(_VULGAR.get(c, c) for c in text)
    text = _THIN_THOUSANDS.sub(lambda m: re.sub(r"\D", "", m[0]), text)
    text = _APOSTROPHES.sub(lambda m: re.sub(r"\D", "", m[0]), text)
    text = "".join(_SIGNS.get(c, c) for c in text)
    text = unicodedata.normalize("NFKC", text)
    return "".join(_SIGNS.get(c, c) for c in text)


def tidy(answer: str) -> str:
    """An answer without the marks of typesetting: dollar signs, \\left, fonts, spaces of all kinds,
    a final full stop, Unicode look-alikes.
    """
    text = answer.strip()
    if _PLAIN.fullmatch(text):
        return text
    return _kept(text) if len(text) <= KEPT else _tidied(text)


# Many messages give one answer, and every one is compared with the same truth.
KEPT = 300  # characters of a text that is kept


@functools.lru_cache(maxsize=1 << 14)
def _kept(text: str) -> str:
    return _tidied(text)


def _tidied(text: str) -> str:
    text = _unicode(text)
    for pattern, to in _SPELLINGS:
        text = pattern.sub(to, text)
    text = _unwrapped(text.strip())
    if text.count("$") > 1:
        text = text.replace("$", "")
    if outer := re.fullmatch(r"\\text\{([^{}]*)\}", text):
        inner = outer[1].strip()
        # numbers in \text are numbers; words stay words
        text = inner if re.fullmatch(r"[-+\d.,/ $%€£¥₹¢]+", inner) else text
    return re.sub(r"\s+", " ", text).strip()


def _unwrapped(text: str) -> str:
    """Without dollar signs, brackets of formulas, bold marks around all of it, and final marks."""
    while True:
        before = text
        for left, right in _WRAPPERS:
            inner = text[len(left) : -len(right)]
            if text.startswith(left) and text.endswith(right) and inner and left not in inner:
                text = inner.strip()
        text = re.sub(r"(?<=[^.\s])\s?[.,;:]$", "", text.strip("*").strip()).strip()
        text = _braced(text)
        if text == before:
            return text


def _braced(text: str) -> str:
    """Without braces around all of it."""
    if text.startswith("{") and text.endswith("}") and not text.endswith("\\}"):
        inner = text[1:-1]
        depth = 0
        for c in re.sub(r"\\[{}]", "", inner):
            depth += {"{": 1, "}": -1}.get(c, 0)
            if depth < 0:
                return text
        return inner.strip() if depth == 0 and inner.strip() else text
    return text


def untexted(text: str) -> str:
    """Without \\text around words."""
    return re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)


def squeeze(text: str) -> str:
    """An answer without what never changes its meaning: white space, the braces of single
    characters, \\cdot.
    """
    if _PLAIN.fullmatch(text):
        return text
    text = untexted(text)
    text = re.sub(r"\s*\\cdot\s*|\\times ", "*", text)
    text = re.sub(r"\{\s*([A-Za-z0-9])\s*\}", r"\1", text)
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)


def depths(text: str) -> list[int]:
    """How many brackets of any kind enclose each character."""
    out = []
    depth = 0
    for c in text:
        depth -= c in ")]}"
        out.append(max(depth, 0))
        depth += c in "([{"
    return out


def split(text: str, marks: str = ",;") -> list[str]:
    """Parts of a list: split at marks outside all brackets."""
    out = []
    start = 0
    for i, depth in enumerate(depths(text)):
        if text[i] in marks and depth == 0:
            out.append(text[start:i])
            start = i + 1
    return [part.strip() for part in [*out, text[start:]]]
