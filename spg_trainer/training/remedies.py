"""What helps a run that did not gain what it should: sentences at the end of its warnings and of its last lines.

`docs/learned_nothing.md`, in the repository, says more.

For a run that lacks memory, look elsewhere: `models/out_of_memory.py` repeats work with half as much at once, and
`estimate/fits.py` says before a run what fits on a card, and which settings would.
"""

from collections.abc import Mapping

HELP_IS_ON_PAGE = 'the page "My run learned nothing" says what helps.'
"""The end of a sentence about the components of the reward that a run has lost."""
WORSE = (
    "read with the command below which problems are no longer solved. If the reward rose all the same, weigh `correct` "
    "more (--reward-weights); if completions are cut, raise --max-completion-length; else divide --learning-rate by 3. "
    "With --eval-steps the best step becomes model/"
)
"""After "Next:", for a run that ended worse than it began."""


def remedy_for_equal_groups(shares: Mapping[str, float]) -> str:
    """What to do if groups have equal rewards. shares: what `warnings.shares_of_groups` returns."""
    half = shares["equal"] / 2
    if shares["all_right"] > half:
        return "The problems are solved: take harder ones (--env-args)."
    if shares["same_wrong_text"] > half:
        return "Raise --temperature, so that completions of a problem differ."
    if shares["all_wrong"] > half:
        return "Take easier problems (--env-args), or teach the task first with `python -m spg_trainer sft`."
    return "Use a reward that tells right from wrong, e.g. --reward-weights correct=1."


def remedy_for_no_gain(groups: Mapping[str, float] | None) -> str:
    """What to do if a run did not beat its start. groups: the shares of its groups; None = the model sampled none."""
    if groups is None:
        return "Train longer (--max-steps), or with another --algorithm."
    return f"{remedy_for_equal_groups(groups)} Or train longer (--max-steps), or with another --algorithm."


MORE_ROWS = "The validation loss has risen since: more steps make this model worse; more rows to learn from would help."
"""For a run that has learned its rows by heart: its validation loss has risen since the step that is in model/."""


def remedy_for_no_mixed_group(loss_has_risen: bool) -> str:
    """What to do if a model that learned from given completions solves all or none of each group of completions."""
    longer = "Give it more rows to learn from" if loss_has_risen else "Train longer (--max-steps)"
    return f"{longer}, or try another --mix or easier problems (--env-args)."


def remedy_for_mix(follows_none: bool, more_right: bool) -> str:
    """What to do if a model does not imitate its demonstrations in the shares of their mix (`sft --mix`).

    A mix has right demonstrations and those of habits, plausible ways to answer that are often wrong. follows_none:
    whether most completions are neither right nor follow a habit. more_right: whether more of them are right than the
    mix asks for.
    """
    if follows_none:
        return "Train longer: --resume RUN --max-steps N --patience 0."
    if more_right:
        return "The problems are easy for this model: take harder ones (--env-args)."
    return "Train longer first, as a model learns the easier rule first; then give `right` a larger share (--mix)."
