"""Amounts of money: how currencies and powers of ten are written, and which currencies each spelling may mean.

`$` is the dollar of several countries, and `¥` is yen or yuan. So a spelling stands for a set of currencies, and two
spellings contradict each other if their sets have no currency in common. A cent is a different unit from a dollar, and
pence are different from pounds.
"""

# {unit of money: (its spellings, i.e. signs, words and codes; the currencies of ISO 4217 that it may stand for)}
_UNITS = {
    "dollar": ("$ ＄ dollar dollars buck bucks", "usd cad aud nzd sgd hkd"),
    "usd": ("usd", "usd"),
    "cad": ("cad", "cad"),
    "aud": ("aud", "aud"),
    "nzd": ("nzd", "nzd"),
    "sgd": ("sgd", "sgd"),
    "hkd": ("hkd", "hkd"),
    "cent": ("¢ cent cents", "cent"),
    "pence": ("pence", "pence"),  # no pennies, which may be cents
    "euro": ("€ eur euro euros", "eur"),
    "pound": ("pound pounds", "gbp"),  # or a weight
    "sterling": ("£ ￡ gbp sterling quid", "gbp"),
    "yen": ("jpy yen", "jpy"),
    "yuan": ("cny rmb yuan renminbi", "cny"),
    "¥": ("¥ ￥", "jpy cny"),
    "rupee": ("₹ ₨ inr rs rupee rupees", "inr"),
    "won": ("₩ krw", "krw"),
    "ruble": ("₽ rub ruble rubles rouble roubles", "rub"),
    "franc": ("chf franc francs", "chf"),
    "peso": ("₱ mxn php peso pesos", "mxn php"),
    "real": ("brl reais", "brl"),
    "lira": ("₺ lira liras", "try"),
    "shekel": ("₪ ils shekel shekels", "ils"),
    "naira": ("₦ ngn naira", "ngn"),
    "dong": ("₫ vnd", "vnd"),
    "baht": ("฿ thb baht", "thb"),
    "zloty": ("pln zloty zlotys", "pln"),
    "krona": ("sek krona kronor", "sek"),
    "krone": ("nok dkk krone kroner", "nok dkk"),
    "rand": ("zar rand", "zar"),
}
NATIONS = {"us": "usd", "american": "usd", "canadian": "cad", "australian": "aud", "british": "gbp"}
"""{a word before a unit of money: the one currency that the unit can then mean}."""
_CODES = sorted({code for _, codes in _UNITS.values() for code in codes.split()})
# {unit of money: the set of its currencies, as a number with bit i set for the currency _CODES[i]}
_SETS = {name: sum(1 << _CODES.index(code) for code in codes.split()) for name, (_, codes) in _UNITS.items()}
NAMES = {spelling: name for name, (spellings, _) in _UNITS.items() for spelling in spellings.split()}
"""{a spelling: its unit of money, a key of `_UNITS`}."""
SIGNS = {spelling: name for spelling, name in NAMES.items() if not spelling.isalpha()}
"""The part of `NAMES` whose spellings are signs."""
CODES = frozenset([*_CODES, "rmb", "rs"]) & (frozenset(NAMES) - {"cent", "pence"})
"""Spellings that are codes, of ISO 4217 or others, which are written in capitals beside a number: `USD 5`, `5 EUR`."""


# {word behind a number: the power of ten that it stands for}
MAGNITUDES = {
    **dict.fromkeys(("hundred", "hundreds"), 2),
    **dict.fromkeys(("thousand", "thousands", "tsd", "tausend"), 3),
    **dict.fromkeys(("lakh", "lakhs"), 5),
    **dict.fromkeys(("million", "millions", "mln", "mio", "millionen"), 6),
    **dict.fromkeys(("crore", "crores"), 7),
    **dict.fromkeys(("billion", "billions", "bn", "bln", "mrd", "milliarde", "milliarden"), 9),
    **dict.fromkeys(("trillion", "trillions"), 12),
    **dict.fromkeys(("quadrillion", "quadrillions"), 15),
}
GLUED_MAGNITUDES = {"k": 3, "b": 9}
"""{letter right behind a number: its power of ten}: `5k`."""
MONEY_MAGNITUDES = {"k": 3, "m": 6, "mm": 6, "mn": 6, "mil": 6, "b": 9, "t": 12, "tn": 12}
"""{letters behind an amount of money: their power of ten}: `$5M`, where m is no metre."""


def currencies_of(spelling: str) -> int:
    """The set of currencies that a spelling or a unit of money may mean, one bit for each; 0 if it means none."""
    if spelling in NATIONS:
        return 1 << _CODES.index(NATIONS[spelling])
    return _SETS.get(NAMES.get(spelling, spelling), 0)
