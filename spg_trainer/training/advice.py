"""What a run says unasked: a table of (condition, sentence, page) for each moment, and the figures that it reads.

A run that lacks memory is helped elsewhere: `models/policy.py` repeats work with half as much at once, and
`estimate/fits.py` says before a run what fits on a card, and which settings would.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, get_args, get_type_hints

from spg_trainer.algorithms import Algorithm
from spg_trainer.distributed import begin_phase, gather, raising_on_all
from spg_trainer.errors import ConfigError, plural
from spg_trainer.evaluation.evaluate import evaluate_checked
from spg_trainer.evaluation.habits import HabitCounts, count_habits, sft_command
from spg_trainer.models.shard import unsharded
from spg_trainer.rollout.collect import counts_text, sample_rows
from spg_trainer.rollout.demonstrations import shares_of
from spg_trainer.settings.configs import Config
from spg_trainer.settings.recorded import model_environment
from spg_trainer.settings.weights import is_embedded, unseen
from spg_trainer.tensors import Rows
from spg_trainer.training.criteria import LOSS
from spg_trainer.training.run import Run

History = Sequence[Mapping[str, Any]]
"""Rows of metrics.jsonl, oldest first."""


class Said(NamedTuple):
    """A row of the table."""

    holds: Callable[[Any], Any]
    """Whether it is to be said, by the figures of its moment."""
    sentence: str
    """What is said, with figures in braces, and what helps."""
    page: str = "learned_nothing.md"
    """The page of `docs/`, in the repository, that says more."""


REPEAT_AFTER = 10
"""What is said after a step is repeated only if it held at none of so many steps before."""
NO_SIGNAL_SHARE = 0.75
"""From this share of groups without a signal on, a run warns. A group has no signal if its rewards are equal, since
such rewards teach nothing; but if the algorithm's `right_groups_teach` is true, an all-right group has a signal."""
STUCK = 10
"""A run warns after so many steps in a row in which most groups have no signal and the reward does not rise. Fewer such
steps may be normal: if few completions are right at first, most groups are all wrong, and become mixed as the reward
rises."""
RISES = 1.25
"""The reward rises if its mean over the later half of the `STUCK` steps is more than this times that of the first."""
COMMON = 0.95
"""From this mean on, a component of the reward hardly tells the completions of a group apart: nearly all have it."""
ENOUGH_TO_FALL = 0.2
"""A component that began below this mean is not warned of, because its fall may be noise."""
ENOUGH_TO_JUDGE = 256
"""If none of so many completions is right, that is no chance (see `look_at_base`); of fewer it may be."""
GROUPS, GENERATIONS = 32, 8
"""The most problems for which completions are sampled after a training on given completions, and how many for each."""
FAR = 2.0
"""If the odds of `right` in the completions differ by more than this factor from those in the mix, a line says so."""
FEWEST = 20
"""The fewest completions that follow one rule alone from which the share of `right` is judged."""
TRIED = 20
"""A run of fewer steps counts as a first look, and is not said to have gained nothing."""
MEANINGFUL = 0.1
"""A run is said to have gained nothing only if its interval excludes so large a gain in the solved rate."""

# After a step, all that hold are said, once (`new_warnings`); the figures are those of `figures_of_steps`.
AFTER_A_STEP = (
    Said(
        lambda f: f.env_errors,
        "the environment's score raised on {env_errors} completions of this step ({reasons}), which earn 0; more than "
        "5% stop the run. Look for the traceback in samples/ (--sample-steps 1 writes every step).",
        "add_a_task.md",
    ),
    Said(
        lambda f: f.no_room,
        "{no_room} episodes of this step ended because their next prompt, the chat so far, was too long for the model; "
        "they earn what they had reached. Lower --max-completion-length or the number of turns.",
        "environments/turns.md",
    ),
    Said(
        lambda f: f.steps >= STUCK and f.without_signal >= NO_SIGNAL_SHARE and not (f.rises or f.has_learned),
        "{equal:.0%} of the groups have equal rewards ({stuck} steps in a row), and such rewards teach nothing: "
        "{groups}. {remedy}",
    ),
    Said(  # if most completions are right although they are cut, they need not be longer
        lambda f: f.steps >= 3 and f.least_cut > 0.5 and f.correct < 0.5,
        "{cut:.0%} of the completions have no end token and are cut (3 steps in a row). Raise --max-completion-length.",
    ),
    Said(
        lambda f: f.steps >= 3 and f.tokens_now >= 1.5 * f.tokens_at_first,
        "a pass unmasks {tokens_now:.1f} tokens, {tokens_at_first:.1f} in the first steps: the threshold lets more "
        "tokens through as the model grows surer, and it may have learned nothing else. Compare with `eval`, which is "
        "exact by default; lower --max-tokens-per-step, or train with --unmasking schedule.",
        "rollout.md",
    ),
)
# After a step, also of a run whose completions are given.
UPDATES_SKIPPED = Said(
    lambda f: f.updates_skipped,
    "{updates_skipped} of this step's updates had a loss or a gradient that is NaN or infinite, and left the weights "
    "as they were; three in a row stop the run. The metric updates_skipped counts them. If there are more, lower "
    "--learning-rate or --max-grad-norm.",
    "runs.md",
)
HELP_IS_ON_PAGE = 'the page "My run learned nothing" says what helps.'
# After a step, of each component of the reward, also of those of weight 0.
OF_A_COMPONENT = Said(
    lambda f: f.before >= ENOUGH_TO_FALL and f.most_now < f.before / 2 and f.reward >= f.reward_at_first,
    "{name} has fallen from {before:.2f} to {now:.2f} while the reward rose: completions earn it without {name}. Look "
    "at samples/; if {name} matters, " + HELP_IS_ON_PAGE,
)
# Of each table below, the first row that holds is said.
OF_EQUAL_GROUPS = (
    Said(lambda f: f.all_right > f.equal / 2, "The problems are solved: take harder ones (--env-args)."),
    Said(
        lambda f: f.same_wrong_text > f.equal / 2,
        "Raise --temperature, so that completions of a problem differ.",
    ),
    Said(
        lambda f: f.all_wrong > f.equal / 2,
        "Take easier problems (--env-args), or teach the task first with `python -m spg_trainer sft`.",
    ),
    Said(lambda f: True, "Use a reward that tells right from wrong, e.g. --reward-weights correct=1."),
)
BEFORE_STEP_1 = (
    Said(lambda f: f.wrong_length, "{wrong_length}"),
    Said(
        lambda f: not f.draws_noise,
        "At --temperature 0 all completions of a problem are the same: raise it.",
    ),
    Said(
        lambda f: 2 * f.all_right > f.groups,
        "Most are all right: the problems are solved. Make them harder (--env-args).",
    ),
    Said(lambda f: True, "Raise --temperature, or teach the model the task first with `{command}`."),
)
OF_LENGTHS = (
    Said(
        lambda f: f.shortest > f.taught,
        "all completions have {shortest} tokens or more, and {model} was taught to write at most {taught}. Use "
        "--max-completion-length {taught}.",
    ),
    Said(  # a model that was taught with this length may have been taught to fill it
        lambda f: f.cut == 1 and f.correct < 0.5 and not f.is_as_taught,
        "all completions are cut after {length} tokens. Raise --max-completion-length, which is {length}.",
    ),
)
OF_NO_MIXED_GROUP = (
    Said(
        lambda f: f.has_risen,
        "Give it more rows to learn from, or try another --mix or easier problems (--env-args).",
        "own_data.md",
    ),
    Said(
        lambda f: True,
        "Train longer (--max-steps), or try another --mix or easier problems (--env-args).",
        "own_data.md",
    ),
)
OF_A_MIX = (
    Said(
        lambda f: 2 * f.neither > f.completions,
        "{neither} of {completions} sampled completions follow none of its rules yet. Train longer: --resume RUN "
        "--max-steps N --patience 0.",
        "own_data.md",
    ),
    Said(
        lambda f: f.share > f.asked,
        "{share:.0%} of the sampled completions are, where the rules differ. The problems are easy for this model: "
        "take harder ones (--env-args).",
        "own_data.md",
    ),
    Said(
        lambda f: True,
        "{share:.0%} of the sampled completions are, where the rules differ. Train longer first, as a model learns the "
        "easier rule first; then give `right` a larger share (--mix).",
        "own_data.md",
    ),
)
OF_NO_GAIN = (
    Said(
        lambda f: f.solved_sampled == 0,
        "The run did not beat its start: not one sampled completion was right, so there was nothing to reinforce. "
        "{remedy}",
    ),
    Said(
        lambda f: f.groups,
        "The run did not beat its start: {equal:.0%} of its groups had equal rewards ({groups}). {remedy}",
    ),
    Said(lambda f: True, "The run did not beat its start. {remedy}"),
)
WORSE = (
    "read with the command below which problems are no longer solved. If the reward rose all the same, weigh `correct` "
    "more (--reward-weights); if completions are cut, raise --max-completion-length; else divide --learning-rate by 3. "
    "With --eval-steps the best step becomes model/"
)
"""After "Next:", for a run that ended worse than it began."""
MORE_ROWS = "The validation loss has risen since: more steps make this model worse; more rows to learn from would help."
"""For a run that has learned its rows by heart: its validation loss has risen since the step that is in model/."""


def first_said(rows: Sequence[Said], figures: SimpleNamespace) -> str:
    """The sentence of the first row that holds; "" if none does."""
    return next((row.sentence.format(**vars(figures)) for row in rows if row.holds(figures)), "")


def new_warnings(history: History, right_groups_teach: bool = False) -> list[str]:
    """What holds at the newest step and at none of the `REPEAT_AFTER` before; each sentence names the flags to change.

    right_groups_teach: the attribute of this name of the run's algorithm.
    """
    histories_before = (history[:-back] for back in range(1, min(REPEAT_AFTER, len(history)) + 1))
    held_before = {row for before in histories_before for row in all_warnings(before, right_groups_teach)}
    holding = all_warnings(history, right_groups_teach)
    return [text for row, text in holding.items() if row not in held_before]


def all_warnings(history: History, right_groups_teach: bool) -> dict[tuple[str, str], str]:
    """{(sentence of the table, component that it is about or ""): text} of all that holds at the newest step."""
    if not history:
        return {}
    skipped = SimpleNamespace(updates_skipped=history[-1].get("updates_skipped"))
    said: dict[tuple[str, str], str] = {}
    if UPDATES_SKIPPED.holds(skipped):
        said[UPDATES_SKIPPED.sentence, ""] = UPDATES_SKIPPED.sentence.format(**vars(skipped))
    # Without "env_errors", the completions are those of a file, and no environment judges them.
    if "env_errors" not in history[-1]:
        return said
    figures = figures_of_steps(history, right_groups_teach)
    said |= {
        (row.sentence, ""): row.sentence.format(**vars(figures)) for row in AFTER_A_STEP if row.holds(figures)
    }
    for component in figures_of_components(history):
        if OF_A_COMPONENT.holds(component):
            said[OF_A_COMPONENT.sentence, component.name] = OF_A_COMPONENT.sentence.format(**vars(component))
    return said


def figures_of_steps(history: History, right_groups_teach: bool) -> SimpleNamespace:
    """What `AFTER_A_STEP` reads: figures of the newest step, of the last 3, the last `STUCK` and the first 3."""
    newest, recent, last, first = history[-1], history[-3:], history[-STUCK:], history[:3]
    half, shares = len(last) // 2, shares_of_groups(last)
    signal = "frac_reward_zero_std_not_all_correct" if right_groups_teach else "frac_reward_zero_std"
    errors = {name: count for name, count in newest.items() if name.startswith("env_errors/")}
    # Groups may have equal rewards because the run has learned its problems. Problems that the model solved from the
    # start were not learned, so all-right groups must have doubled.
    most_are_right = shares["all_right"] > shares["equal"] / 2
    have_doubled = shares["all_right"] > 2 * mean(first, "frac_groups_all_correct")
    return SimpleNamespace(
        steps=len(history),
        env_errors=newest["env_errors"],
        reasons=counts_text({name.removeprefix("env_errors/"): count for name, count in errors.items()}),
        no_room=newest.get("turns/no_room"),
        without_signal=min(row[signal] for row in last),
        rises=mean(last[half:], "reward") > RISES * mean(last[:half], "reward") if half else True,
        has_learned=most_are_right and have_doubled,
        stuck=len(last),
        equal=shares["equal"],
        groups=what_equal_groups_are(shares),
        remedy=first_said(OF_EQUAL_GROUPS, SimpleNamespace(**shares)),
        cut=newest["completions/clipped_ratio"],
        least_cut=min(row["completions/clipped_ratio"] for row in recent),
        correct=mean(recent, "correct"),
        tokens_now=mean(recent, "completions/tokens_per_pass"),
        tokens_at_first=mean(first, "completions/tokens_per_pass"),
    )


def figures_of_components(history: History) -> Iterator[SimpleNamespace]:
    """What `OF_A_COMPONENT` reads, for each component of the reward but `correct`; nothing before the third step."""
    first, recent = history[:3], history[-3:]
    for key in recent[-1] if len(recent) == 3 else ():
        name = key.removeprefix("rewards/").removesuffix("/mean")
        if key == f"rewards/{name}/mean" and name != "correct":
            yield SimpleNamespace(
                name=name,
                before=mean(first, key),
                now=mean(recent, key),
                most_now=max(row[key] for row in recent),
                reward=mean(recent, "reward"),
                reward_at_first=mean(first, "reward"),
            )


def mean(history: History, name: str) -> float:
    """The mean of a metric over some steps; a step that does not have it counts as 0."""
    return sum(row.get(name, 0.0) for row in history) / len(history)


def shares_of_groups(history: History) -> dict[str, float]:
    """The mean shares of groups with equal rewards, with right or wrong completions only, and with one wrong text."""
    return {
        "equal": mean(history, "frac_reward_zero_std"),
        "all_right": mean(history, "frac_groups_all_correct"),
        "all_wrong": mean(history, "frac_groups_all_wrong"),
        "same_wrong_text": mean(history, "frac_groups_wrong_identical"),
    }


def what_equal_groups_are(shares: Mapping[str, float]) -> str:
    """Part of a sentence: how many groups have right completions only, wrong ones only, or one wrong text."""
    return (
        f"{shares['all_right']:.0%} of all groups are all right, {shares['all_wrong']:.0%} all wrong, "
        f"{shares['same_wrong_text']:.0%} the same wrong text"
    )


def form_warning(
    algorithm: Algorithm, reward_weights: Mapping[str, float], metrics: Mapping[str, float]
) -> str:
    """A warning if advantages are divided by the group's deviation and the reward pays for form, too; else "".

    In a group of wrong answers only the form differs. Divided by the group's deviation, this difference becomes as
    large as one between right and wrong. So form is what is taught while most groups are all wrong. metrics: those of
    the first rollout; a component that nearly all of its completions have is no reason to warn.
    """
    paid = [
        name
        for name, weight in reward_weights.items()
        if weight and name != "correct" and metrics[f"rewards/{name}/mean"] < COMMON
    ]
    if not paid or algorithm.advantage not in ("mean_std", "z_score"):
        return ""
    remedies = ["--reward-weights correct=1 " + " ".join(f"{name}=0" for name in paid)]
    allowed = get_args(get_type_hints(type(algorithm))["advantage"])  # some algorithms allow no other
    if "mean" in allowed:
        remedies.insert(0, "--algorithm-args advantage=mean")
    return (
        f"advantage={algorithm.advantage} with a reward for {', '.join(paid)}: while few completions are right, wrong "
        f"ones in the right form are raised, too, and right ones may die out. Use {' or '.join(remedies)}."
    )


def look_at_base(run: Run, scored: Rows, metrics: Mapping[str, float]) -> None:
    """Says before the first update what completions are like, since RL picks among the behaviours that a model has.

    Raises ConfigError, unless --force is given, if rewards teach nothing: no completion is right, and no group has
    unequal rewards. With fewer than `ENOUGH_TO_JUDGE` completions this may be chance and is no error, except for a
    model of this package that was not taught the task. metrics: the rollout's.
    """
    config, samples = run.config, gather(sample_rows(scored, policy=run.policy, env=run.source, step=0))
    # How many completions are right, and how many follow a habit: a plausible way to answer that is often wrong.
    with raising_on_all():
        counts = count_habits(run.source.env, samples)
    run.console.say(f"Before step 1: {counts.shares}; {counts.signal}.")
    length = wrong_length(config, min(gather(scored.completion_mask.sum(-1).tolist())), metrics)
    if counts.mixed:  # some groups have both right and wrong completions, from which RL learns
        if length:
            run.console.warn(f"before step 1: {length}")
        return
    remedy = first_said(
        BEFORE_STEP_1,
        SimpleNamespace(
            wrong_length=length[:1].upper() + length[1:],
            draws_noise=config.rollout.draws_noise,
            all_right=counts.all_right,
            groups=counts.groups,
            command=sft_command(run.splits["train"], config.env, config.env_args, config.model.model),
        ),
    )
    cannot_be_chance = counts.completions >= ENOUGH_TO_JUDGE or unseen(config.model.model, config.env)
    teaches_nothing = counts.follows["right"] == 0 and metrics["frac_reward_zero_std"] == 1
    if teaches_nothing and cannot_be_chance and not config.force:
        per_problem = f"{counts.completions // counts.groups} of each of {plural(counts.groups, 'problem')}"
        raise ConfigError(
            f"before step 1 the model wrote {counts.completions} completions, {per_problem}, and none of "
            f"{counts.completions} is right. All completions of a problem earn the same, and such rewards teach "
            "nothing. If the model is right now and then, but less often than that, train all the same: "
            f"{run.folder.go_on} --force. With --max-rollout-batches a run looks at more completions "
            f"before it ends here, but learns less per completion. {remedy}"
        )
    why_it_goes_on = ""
    if teaches_nothing and not cannot_be_chance:
        why_it_goes_on = (
            f" None of {counts.completions} completions is right. They are so few that this may be chance, so the run "
            f"goes on; it would end here if none of {ENOUGH_TO_JUDGE} or more were right."
        )
    run.console.warn(
        f"before step 1: no group is mixed, with both right and wrong completions.{why_it_goes_on} {remedy}"
    )


def wrong_length(config: Config, shortest: int, metrics: Mapping[str, float]) -> str:
    """What is wrong with the lengths of the first completions, and what to do; "" if nothing is.

    Something is wrong if all completions are longer than the model was taught to write, or if all are cut and most are
    wrong. shortest: tokens of the shortest completion. metrics: the rollout's.
    """
    length, model = config.rollout.max_completion_length, config.model.model
    record = model_environment(model).get("rollout") or {}
    taught = record.get("max_completion_length", length)
    figures = SimpleNamespace(
        shortest=shortest,
        taught=taught,
        length=length,
        model=model,
        cut=metrics["completions/clipped_ratio"],
        correct=metrics["correct"],
        # A model without a record counts as taught with `length` only if it is one of this package.
        is_as_taught=(bool(record) or is_embedded(model, "tiny")) and taught == length,
    )
    return first_said(OF_LENGTHS, figures)


def look_at_groups(run: Run) -> None:
    """Shows what RL would find in a model that has learned from given completions: groups of right and wrong answers.

    Samples groups as RL would, and says which habits they follow and how many of them RL could learn from. A run whose
    completions are sampled has said so before its first step; without a task there is nothing to sample.
    """
    config, split = run.config, run.config.eval.eval_split
    if config.samples or split not in run.splits or not config.rollout.draws_noise:
        return
    begin_phase("the look at groups of completions")
    env = run.splits[split]
    with unsharded(run.policy.model):
        samples = evaluate_checked(
            run.player,
            env,
            split=split,
            num_problems=min(GROUPS, config.eval.eval_problems or GROUPS),
            num_generations=GENERATIONS,
            overlong=config.overlong,
            accelerator=run.accelerator,
        ).rows
    with raising_on_all():
        counts = count_habits(env, samples)
    run.console.say(f"At temperature {config.rollout.temperature:g}: {counts.shares}; {counts.signal}.")
    if not counts.mixed:
        rose = config.validates == "loss" and LOSS.has_risen(run.state.validations)
        remedy = first_said(OF_NO_MIXED_GROUP, SimpleNamespace(has_risen=rose))
        run.console.warn(f"no group is mixed, so RL has no right and wrong answers to compare. {remedy}")
    for task in env.parts or [""]:  # "" = the only task, of which all samples are
        sampled = count_habits(env, [row for row in samples if not task or row["task"] == task])
        mix = shares_of({name: share for name, share in run.source.mix.items() if name in sampled.follows})
        if is_far(mix, sampled):
            run.console.say(far_line(mix, sampled, task))


def is_far(mix: Mapping[str, float], counts: HabitCounts) -> bool:
    """Whether most completions follow no rule of the mix, or right ones are far rarer or more frequent than it asks.

    A mix (`--mix`) says which share each rule has by which demonstrations are written: `right`, or a habit, a plausible
    way to answer that is often wrong. If most groups are mixed, RL has what it needs, and right completions may be as
    frequent as they are.
    """
    if len(mix) < 2 or not 0 < mix.get("right", 0.0) < 1:
        return False
    if 2 * counts.neither > counts.completions:
        return True
    if sum(counts.alone.values()) < FEWEST:
        return False
    share, asked = share_of_right(counts), mix["right"]
    away = math.log(share / (1 - share)) - math.log(asked / (1 - asked))
    if away > 0 and 2 * counts.mixed > counts.groups:
        return False
    return abs(away) > math.log(FAR)


def far_line(mix: Mapping[str, float], sampled: HabitCounts, task: str) -> str:
    """A line that says how far the completions are from the mix. task: the task's name in a mixture of tasks, or ""."""
    figures = SimpleNamespace(
        neither=sampled.neither,
        completions=sampled.completions,
        share=share_of_right(sampled),
        asked=mix["right"],
    )
    the_mix = f"{task}: the mix" if task else "The mix"
    return f"{the_mix} asks for {mix['right']:.0%} right: {first_said(OF_A_MIX, figures)}"


def share_of_right(counts: HabitCounts) -> float:
    """The share of `right` among the completions that follow one rule alone.

    (If a habit also gives the right answer, a completion does not show which of the two it follows.) Half a completion
    is added to either side, so that the share is never 0 or 1.
    """
    return (counts.alone["right"] + 0.5) / (sum(counts.alone.values()) + 1)


def surely_gained_nothing(summary: Mapping[str, Any]) -> bool:
    """Whether a run of at least `TRIED` steps gained nothing, and its interval excludes a gain of `MEANINGFUL`.

    A run gained something if one of its validations solves more than that of the start; without validations, if the
    evaluation after the training solves more than the one before. summary: the content of summary.json.
    """
    validations = summary["validation"]
    if validations and validations["start"] is not None:
        # Not "best", the rate of the step in model/: that step may solve a little less than the highest (`best_step`).
        gained = validations["highest"] > validations["start"]
    else:
        gained = summary["gain"] > 0
    possible_gain = summary["eval_after"]["high"] - summary["eval_before"]["correct"]
    return not gained and summary["steps"] >= TRIED and possible_gain < MEANINGFUL


def nothing_gained_line(summary: Mapping[str, Any]) -> str:
    """A line that says that a run did not beat its start, and what its groups were like.

    summary: the content of summary.json.
    """
    groups = summary["groups"]
    longer, remedy = "rain longer (--max-steps), or with another --algorithm.", ""
    if groups is not None:  # None = the model sampled none
        remedy = f"{first_said(OF_EQUAL_GROUPS, SimpleNamespace(**groups))} Or t{longer}"
    figures = SimpleNamespace(
        solved_sampled=summary["solved_sampled"],
        groups=what_equal_groups_are(groups) if groups else "",
        equal=groups["equal"] if groups else 0.0,
        remedy=remedy or f"T{longer}",
    )
    return first_said(OF_NO_GAIN, figures)
