r"""MATH: is this answer the same mathematical object as the reference, whatever its notation?

Reference: `answer`, LaTeX as in the MATH data set: `\frac{3}{56}`, `(-\infty, 2) \cup (3, \infty)`, `2516_8`. Tiers,
cheapest first: normalised text, exact rationals, typed comparison, a numeric probe that proves or refutes, and a
computer algebra system in a process of its own. `parser` makes values of the tokens of `verifiers.reading`, `compare`
says whether two values are the same, `asked` whether an answer is finished and in the form that its problem asks for.
See docs/verifiers/math500.md.
"""
