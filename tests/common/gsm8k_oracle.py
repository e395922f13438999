"""GSM8K answers by construction, in every accepted notation, and a slow reader of them over `Fraction`.

The reader is written apart from the verifier, with regular expressions, and is generous: what it calls wrong
is wrong.
"""

import random
import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction

from tests.common.constructed import Case

_SUPER = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_FROM_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_GLYPHS = {
    Fraction(n, d): glyph for n, d, glyph in ((1, 2, "½"), (1, 4, "¼"), (3, 4, "¾"), (1, 3, "⅓"), (2, 3, "⅔"))
}
_UNITS = [
    "", "", "", " eggs", "eggs", r"\text{ eggs}", r" \text{ cm}", "%", r"\%", " USD", " cm^2", " m²", "°",
    r"^\circ", r"^{\circ}", " per day", " eggs per 3 days", " miles/hour", "/day", "-hour", ".", " dollars!",
    r"\,\text{kg}", " )", r"\ \text{cm}^{2}",
]  # fmt: skip
_MONEY = ["", "", "", "$", r"\$", "€", "£"]
_WORDS = [
    "She makes ", "The answer is: ", "Answer: ", "x = ", "= ", r"9 \times 2 = ", r"x \approx ", "about ", *[""] * 3,
]  # fmt: skip
_FRAMES = [
    "{}", "{}", " {} ", "\n{}\n", "**{}**", r"\mathbf{{{}}}", r"\text{{{}}}", "({})", r"\({}\)", r"\[ {} \]",
    "`{}`", '"{}"', "${}$", "<b>{}</b>", r"\left( {} \right)",
]  # fmt: skip
PLACES = [
    "<answer>{}</answer>", "so\n<answer>\n\\boxed{{{}}}\n</answer>", "it is \\boxed{{{}}}", "<answer>{}",
    "<answer>\\boxed{{17}} \\boxed{{{}}}</answer><|eot_id|>18",
]  # fmt: skip


def in_groups(digits: str, mark: str) -> str:
    head = len(digits) % 3 or 3
    return mark.join([digits[:head], *(digits[i : i + 3] for i in range(head, len(digits), 3))])


def render(rng: random.Random) -> tuple[str, Fraction]:
    """A number in some notation without its sign, and its value."""
    digits = str(rng.randrange(10 ** rng.choice([1, 2, 4, 9, 25])))
    value, text = Fraction(digits), digits
    kind = rng.randrange(10)
    if kind <= 1:
        text = in_groups(digits, rng.choice([",", ",", "{,}", r"\,", "\u2009", "\u202f", r",\!"]))
    elif kind == 2:
        tail = "".join(rng.choices("0123456789", k=rng.randrange(1, 6)))
        text, value = f"{text}.{tail}", Fraction(f"{digits}.{tail}")
    elif kind == 3:
        bottom = rng.randrange(1, 10**6)
        forms = ["{}/{}", "{} / {}", r"\frac{{{}}}{{{}}}", r"\dfrac{{{}}}{{ {} }}", "{}÷{}", "{}⁄{}"]
        form = rng.choice(forms)
        text, value = form.format(digits, bottom), value / bottom
    elif kind == 4:
        bottom = rng.randrange(2, 1000)
        top = rng.randrange(1, bottom)
        form = rng.choice(["{} {}/{}", r"{}\frac{{{}}}{{{}}}", r"{} \frac{{{}}}{{{}}}"])
        text, value = form.format(digits, top, bottom), value + Fraction(top, bottom)
    elif kind == 5:
        part = rng.choice(list(_GLYPHS))
        text, value = digits + rng.choice(["", " "]) + _GLYPHS[part], value + part
    elif kind == 6:
        power = rng.randrange(-12, 12)
        marks = [r" \times 10^{{{}}}", r"\times10^{}", "e{}", " * 10^{}", r" \cdot 10^{{{}}}"]
        form = "{}" + rng.choice(marks)
        text, value = form.format(digits, power), value * Fraction(10) ** power
    elif kind == 7:
        word, power = rng.choice([("hundred", 2), ("thousand", 3), ("million", 6), ("billion", 9)])
        text, value = f"{digits} {word}", value * 10**power
    if rng.random() < 0.05 and "," not in text:
        zero = rng.choice("٠०０𝟎")
        text = "".join(chr(ord(zero) + int(c)) if c in "0123456789" else c for c in text)
    return text, value


def answer(rng: random.Random) -> tuple[str, Fraction]:
    """An answer in some accepted notation, and its value."""
    text, value = render(rng)
    sign = rng.choice(["", "", "", "-", "−", "+", "minus "])
    money = rng.choice(_MONEY)
    if money and sign == "minus ":
        sign = "-"
    text = rng.choice([f"{sign}{money}{text}", f"{money}{sign}{text}"])
    unit = rng.choice(_UNITS)
    is_other_currency = money in ("€", "£") and unit in (" USD", " dollars!")
    if is_other_currency or (unit == "-hour" and (money or text[-1].isalpha())):
        unit = ""  # £5 dollars, 5 million-hour
    words, frame = rng.choice(_WORDS), rng.choice(_FRAMES)
    if "nswer" in words and frame[0] in "\\$":  # a sentence is no formula
        frame = "{}"
    text = words + text + (" eggs" if unit == "eggs" and text[-1].isalpha() else unit)
    return frame.format(text), -value if sign in ("-", "−", "minus ") else value


_SEP = r"(?:,\\!|\{,\}|,|\\,|[\u00a0\u2006-\u200a\u202f])"
_FRAC = r"\\?(?:d|t|c|s|nice)?frac"
# An exponent, also one of zero, or "per 3": digits that are no number of their own.
_NO_NUMBER = (
    r"^[^\d½¼¾⅓⅔]*?(?:e0(?!\d)|\^ ?\$?\{? ?[-+]?0*[123](?!\d) ?\}?|\\circ\d|"
    r"\b(?:[cdkm]?m|miles?)[23](?!\d)(?:\}?\^\{?2\}?)?|(?:\b|²)per[\s{}$]*[\d.½¼¾⅓⅔ ]+)"
)


def literal(text: str) -> Fraction | None:
    """A decimal with or without groups, all with one separator."""
    marks = ["comma" if mark in (",", "{,}", ",\\!") else "thin" for mark in re.findall(_SEP, text)]
    grouped = rf"[1-9]\d{{0,2}}(?:{_SEP}\d{{3}})+(?:\.\d+)?"
    if len(set(marks)) > 1 or (marks and not re.fullmatch(grouped, text)):
        return None
    text = re.sub(_SEP, "", text)
    return Fraction(text) if re.fullmatch(r"\d+(?:\.\d+)?|\.\d+", text) else None


def signed(text: str) -> Fraction | None:
    text = text.strip()
    sign = -1 if text.startswith("-") else 1
    value = literal(text[1:].strip() if text[:1] in "+-" else text) if text else None
    return None if value is None else sign * value


def quotient(top: Fraction | None, bottom: Fraction | None) -> Fraction | None:
    return None if top is None or not bottom else top / bottom


def number(text: str) -> Fraction | None:
    """The value of a text that is one number without sign, in any accepted notation, or None."""
    text = re.sub(r"(?:\\[:; ]|[ \t\n~])+", " ", text).strip()
    lit = rf"(?:\d(?:\d|{_SEP}(?=\d))*(?:\.\d+)?|\.\d+)"
    frac = rf"{_FRAC}(?: ?\{{ ?([-+]?{lit}) ?\}}| ?(\d))(?: ?\{{ ?([-+]?{lit}) ?\}}| ?(\d))"
    gap = r"(?: |\\,|[\u00a0\u2006-\u200a\u202f])*"
    glyph = "[" + "".join(_GLYPHS.values()) + "]"
    parts = {sign: part for part, sign in _GLYPHS.items()}
    if re.fullmatch(lit, text):
        return literal(text)
    if match := re.fullmatch(rf"({lit}){gap}[/÷⁄∕]{gap}([-+]?{gap}{lit})", text):
        return quotient(literal(match[1]), signed(match[2]))
    if match := re.fullmatch(frac, text):
        return quotient(signed(match[1] or match[2]), signed(match[3] or match[4]))
    if match := re.fullmatch(rf"({lit})?{gap}({glyph})", text):
        whole = literal(match[1]) if match[1] else Fraction(0)
        return None if whole is None or whole.denominator > 1 else whole + parts[match[2]]
    mixed = re.fullmatch(rf"({lit}){gap}{frac}", text)
    if mixed:
        mixed = mixed[1], mixed[2] or mixed[3], mixed[4] or mixed[5]
    elif match := re.fullmatch(
        rf"({lit})(?: |\\,|[\u00a0\u2006-\u200a\u202f])+({lit}){gap}[/÷⁄∕]{gap}({lit})", text
    ):
        mixed = match[1], match[2], match[3]
    if mixed:
        whole, top, bottom = literal(mixed[0]), signed(mixed[1]), signed(mixed[2])
        if whole is None or top is None or not bottom or not 0 <= top < bottom:
            return None
        return whole + top / bottom if "." not in "".join(mixed) else None
    times = r"(?:×|·|\*|x|X|\\times|\\cdot)"
    base = rf"({lit})(?:{gap}{times}{gap}10{gap}"
    sci = base + r"(?:\^(?:\{ ?([-+]? ?\d+) ?\}|([-+]?\d+))|([⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+))|[eE]([-+]?\d+))"
    if match := re.fullmatch(sci, text):
        power = int(next(filter(None, match.groups()[1:])).translate(_FROM_SUPER).replace(" ", ""))
        value = literal(match[1])
        return None if value is None or abs(power) > 500 else value * Fraction(10) ** power
    scales = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
    names = "|".join(scales)
    if match := re.fullmatch(rf"(.*?)((?:[ {{}}*%$]*(?:{names})s?)+|k| ?m)", text, re.I):
        value = number(match[1])
        names = re.findall(names + "|k|m", match[2].lower())
        powers = {**scales, "k": 3, "m": 6}  # behind money
        return None if value is None else value * 10 ** sum(powers[name] for name in names)
    return None


def readings(side: str) -> set[Fraction]:
    """Every value a generous reader could take from one side: all ways to cut a number out of it."""
    found = set()
    for match in re.finditer(r"[\d.\\½¼¾⅓⅔]|frac", side):
        before = side[: match.start()]
        if re.search(r"\d|[½¼¾⅓⅔]", before):
            break
        minus = re.search(r"(?:-|\bminus\b|\bnegative\b)(?:[\s$€£%,.e{}(\\]|\\[,.])*$", before, re.I)
        for end in range(len(side), match.start(), -1):
            if re.search(r"\d|[½¼¾⅓⅔]", re.sub(_NO_NUMBER, "", side[end:], flags=re.I)):
                continue
            value = number(side[match.start() : end])
            if value is not None:
                found.add(-value if minus else value)
                if side[end - 1] not in "mM":  # which may be a unit
                    break
    return found


def oracle(text: str, gold: Fraction) -> bool:
    """Could a generous reader call `text` right? Slow, in Fractions, and written apart from the verifier."""
    text = "".join(str(unicodedata.decimal(c)) if unicodedata.category(c) == "Nd" else c for c in text)
    text = re.sub("[\u2212\u2010-\u2013\ufe63]", "-", text)
    text = re.sub("[\u00ad\u200b-\u200d\u2060\ufeff]", "", text)
    text = re.sub(r"(?<!,)\\!", "", text)
    if re.search(r"\bor\b", text, re.I):
        return False
    text = re.sub(
        r"(?<=[\d^{-])( ?)\$(?=\d)|(?<=\d)\$(?=\})", r"\1", text
    )  # 7 $626/769, in which a dollar says nothing
    text = re.sub(r"\*(?=,\})|(?<=hour\*\*)\d\Z", "", text)
    sides = [readings(side) for side in re.split(r"=|≈|\\approx|\n|answer(?: is)?:", text, flags=re.I)]
    return any(gold in side for side in sides)


def edit(rng: random.Random, text: str) -> str:
    """`text` with one character put in, taken out or replaced."""
    place = rng.randrange(len(text) + 1)
    character = rng.choice("0123456789012345678901234567890123456789.,-+/ =*^x%$e{}\\²½")
    kind = rng.randrange(3)
    return text[:place] + ("" if kind == 0 else character) + text[place + (kind != 1) :]


def cases(seed: int, strict: bool) -> Iterator[Case]:
    """Right answers, and what one edit makes of them."""
    rng = random.Random(seed)
    while True:
        text, value = answer(rng)
        changed = edit(rng, text)
        right, edited = rng.choice(PLACES).format(text), f"<answer>{changed}</answer>"
        texts, gold = {right: text, edited: changed}, f"{value.numerator}/{value.denominator}"
        yield Case(
            right, edited, {"answer": gold}, lambda said, texts=texts, value=value: oracle(texts[said], value)
        )
