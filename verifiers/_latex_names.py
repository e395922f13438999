"""The characters and commands that an answer may hold, and what they are read as."""

from __future__ import annotations

from unicodedata import decimal

SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
CHARACTERS = {
    **{chr(0xFF01 + i): chr(0x21 + i) for i in range(94)},
    **dict.fromkeys("\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", r"\,"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    **dict.fromkeys("\u2212\u2010\u2011\u2013", "-"),
    **dict.fromkeys("×∙⋅·", r"\times "),
    "÷": "/", "∕": "/", "⁄": "/", "°": r"^\circ ", "√": r"\sqrt ", "π": r"\pi ", "∞": r"\infty ", "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ",
    "∓": r"\mp ", "∅": r"\emptyset ", "∠": r"\angle ", "′": "'", "’": "'", "…": r"\dots ", "θ": r"\theta ",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ", "φ": r"\phi ", "ω": r"\omega ",
    "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}",
    "。": ".", "، ": ",", "、": ",", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}",
}  # fmt: skip
TABLE = str.maketrans({key: value for key, value in CHARACTERS.items() if len(key) == 1})

SPACES = frozenset({",", ";", ":", " ", "quad", "qquad", "enspace", "thinspace", ">", "\n", "space", "hfill"})
DROPPED = frozenset(
    "! left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr displaystyle textstyle scriptstyle limits "
    "nolimits mathbf boldsymbol mathbb mathcal vec overrightarrow hat bm bf rm it boxed fbox ( ) [ ] "
    "mathsf mathtt mathit ensuremath hspace vphantom".split()
)
TEXTS = frozenset("text textbf textit textrm texttt textsf mbox mathrm operatorname textnormal emph".split())
ALIASES = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "leqslant": "le", "geq": "ge",
    "geqslant": "ge", "neq": "ne", "lt": "<", "gt": ">", "lvert": "|", "rvert": "|", "vert": "|", "mid": "|",
    "lbrace": "\\{", "rbrace": "\\}", "{": "\\{", "}": "\\}", "times": "*", "cdot": "*", "ast": "*", "div": "/",
    "degree": "deg", "degrees": "deg", "dbinom": "binom", "tbinom": "binom", "colon": ":", "lbrack": "[",
    "rbrack": "]", "arccos": "acos", "arcsin": "asin", "arctan": "atan", "\\": "\\\\", "newline": "\\\\",
    "cr": "\\\\", "%": "%", "$": "\\$", "&": "and", "varnothing": "emptyset", "ldots": "dots", "cdots": "dots",
    "ne": "ne", "prime": "'", "varphi": "phi", "implies": "Rightarrow", "bigcup": "cup", "#": "#", "_": "_",
}  # fmt: skip
SIGN_ALIASES = frozenset("< > | \\{ \\} * / : [ ] \\\\ % \\$ ' # _".split())
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc asin acos atan arcsin arccos arctan log ln lg exp sqrt pi gcd lcm max min det "
    "infty binom frac sinh cosh tanh deg cup".split()
)
SINGLE = frozenset("()[]+-*/^_=<>|!,;:'.%&?\"`@#")


def spelt(text: str) -> str:
    """The text with every known character beyond ASCII as its LaTeX form, and runs of superscripts as powers."""
    parts: list[str] = []
    mode = ""
    for c in text:
        kind = "^" if c in SUPERSCRIPTS else "_" if c in SUBSCRIPTS else ""
        if kind != mode:
            if mode:
                parts.append("}")
            if kind:
                parts.append(kind + "{")
            mode = kind
        digit = SUPERSCRIPTS.get(c) or SUBSCRIPTS.get(c)
        if digit is None:
            digit = str(decimal(c)) if c > "\x7f" and c.isdecimal() else c
        parts.append(digit)
    if mode:
        parts.append("}")
    return "".join(parts).translate(TABLE)
