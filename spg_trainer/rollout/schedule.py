"""How many tokens a denoising step reveals. No torch."""


def reveal_counts(hidden: int, steps: int) -> list[int]:
    """How many of `hidden` tokens each of `steps` steps reveals: evenly, the first steps one more.

    Source: LLaDA (arXiv 2502.09992), `get_num_transfer_tokens`.
    """
    base, more = divmod(hidden, steps)
    return [base + (step < more) for step in range(steps)]
