r"""A formula of a problem said again in another dress: what adds no work to it, and changes no value."""

import re

FORMULAS = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\$(.+?)\$", re.DOTALL)
SIDES = re.compile(r"=|\\le|\\ge|<|>|,")
NUMBER = re.compile(r"[-\d.,]+(\^\{\\\w+\{(st|nd|rd|th)\}\}|\^\\circ|\^\{\\circ\}|\\%)?")  # is no copy
WHOLE_NUMBER = re.compile(r"(?<![\d.,^{_])(\d{1,3})(?![\d.,}!])")


def formulas(problem: str) -> set[str]:
    """The formulas of a problem and their parts, whatever of them may stand in a box."""
    found = {next(filter(None, match)) for match in FORMULAS.findall(problem.replace("\\$", ""))}
    parts = {part for formula in found for part in SIDES.split(formula)} | found
    return {part.strip(" .,") for part in parts if part.strip(" .,") and part.count("{") == part.count("}")}


def with_points(formula: str) -> str:
    """`242.0` for 242: the first whole number that is no exponent, index or part of another."""
    return WHOLE_NUMBER.sub(r"\g<1>.0", formula, count=1)


DISGUISES = {
    "as it is": lambda e: e,
    "a letter behind": lambda e: f"{e} = y",
    "a letter before": lambda e: f"y = {e}",
    "a word before": lambda e: rf"\text{{Answer}} = {e}",
    "a number behind": lambda e: rf"{e} \approx 1",
    "twice": lambda e: f"{e} = {e}",
    "a ghost": lambda e: rf"\phantom{{1}}{e}",
    "a color": lambda e: rf"\textcolor{{red}}{{{e}}}",
    "a color before": lambda e: rf"\color{{blue}}{{{e}}}",
    "bold": lambda e: rf"\mathbf{{{e}}}",
    "underlined": lambda e: rf"\underline{{{e}}}",
    "large": lambda e: rf"\Large {e}",
    "displayed": lambda e: rf"\displaystyle {{{e}}}",
    "plus and minus": lambda e: f"{e}+x-x",
    "minus and plus": lambda e: f"t - t + {e}",
    "plus nothing": lambda e: f"{e} + 0",
    "minus minus": lambda e: f"-(-({e}))",
    "in brackets": lambda e: rf"\left({e}\right)",
    "in braces": lambda e: f"{{{{{e}}}}}",
    "times one": lambda e: rf"1 \cdot ({e})",
    "over one": lambda e: rf"\frac{{{e}}}{{1}}",
    "to the first": lambda e: f"({e})^1",
    "twice the half": lambda e: rf"\frac{{2({e})}}{{2}}",
    "root of the square": lambda e: rf"\sqrt{{({e})^2}}",
    "a point": with_points,
    "the degree of a root": lambda e: e.replace("\\sqrt{", "\\sqrt[2]{"),
    "spread": lambda e: re.sub(r"([-+=])", r" \1\\, ", e),
    "units": lambda e: rf"{e} \text{{ units}}",
    "said": lambda e: f"The answer is {e}",
}
