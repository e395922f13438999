"""`KEY=VALUE ...` flags: at least one pair, values read as YAML scalars (numbers, true/false, else text)."""

from tyro.constructors import PrimitiveConstructorSpec


def parse_pairs(words: list[str]) -> dict[str, object]:
    """`["a=1", "b=x"]` -> `{"a": 1, "b": "x"}`. Raises ValueError on a word without `=`, a repeated key, or no pair."""
    pairs: dict[str, object] = {}
    if not words:
        raise ValueError("needs at least one KEY=VALUE pair")
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f"{word!r} is not of the form KEY=VALUE")
        if key in pairs:
            raise ValueError(f"{key!r} is given twice")
        pairs[key] = _scalar(value)
    return pairs


def _scalar(text: str) -> object:
    """YAML's int and float by Python's own rules (YAML 1.1 reads 1e-3 as text and 4:11 as a number), else text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


PAIRS = PrimitiveConstructorSpec(
    nargs="*",
    metavar="KEY=VALUE [KEY=VALUE ...]",
    instance_from_str=parse_pairs,
    is_instance=lambda value: isinstance(value, dict),
    str_from_instance=lambda value: [f"{k}={v}" for k, v in value.items()],
)
