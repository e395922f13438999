"""The `eval` command: evaluates a model at every length and number of steps asked for, each in two files of its own.

NAME.jsonl has a line for each completion, appended as it is made. NAME.json says what is measured, and at the end what
was found. Completions in the file are not made again, so the same command continues an interrupted evaluation.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from spg_trainer import distributed
from spg_trainer.errors import ConfigError, as_flag, plural
from spg_trainer.evaluation.evaluate import (
    BATCH,
    Evaluation,
    evaluate_checked,
    evaluation_settings,
    figures,
    note_of_fewer_problems,
    problems_to_ask,
)
from spg_trainer.evaluation.habits import sft_command
from spg_trainer.evaluation.log_likelihood import choose_canvas, measure_perplexity, read_texts
from spg_trainer.models import Policy, divide_policy, open_for_evaluation
from spg_trainer.models.forward import base_model
from spg_trainer.models.shard import unsharded
from spg_trainer.rollout.cache import check_noise, check_pattern
from spg_trainer.rollout.player import Player
from spg_trainer.rollout.sampler import RolloutStopped
from spg_trainer.rollout.tokens import length_warning
from spg_trainer.rollout.unmasking import check_own_rules
from spg_trainer.runs import inputs
from spg_trainer.runs.files import check_writable, read_json
from spg_trainer.runs.folder import RunFolder
from spg_trainer.runs.progress import Console
from spg_trainer.runs.resume import differences, refuse_changed_base
from spg_trainer.runs.stop import StopRequest, stopping
from spg_trainer.settings.check import check, check_processes, crowded_cores
from spg_trainer.settings.configs import EvalCommand
from spg_trainer.settings.decoding import Decoding, EvalRollout, Sampling
from spg_trainer.settings.packages import envs, verifiers
from spg_trainer.settings.recorded import ENVIRONMENT, model_environment, other_lengths, run_holding
from spg_trainer.settings.resolve import FLAG, Resolved
from spg_trainer.settings.task import make_env, parse_tasks
from spg_trainer.settings.types import flatten, to_json
from spg_trainer.settings.weights import resolve_model, unseen

LENGTH, BLOCK_LENGTH = "rollout.max_completion_length", "rollout.block_length"
"""The dotted names of two settings, as `Resolved.origins` has them."""
PERPLEXITY = ("env", "perplexity", "num_masks", LENGTH, BLOCK_LENGTH, "seed", "output_dir")
"""The settings that --perplexity uses besides those of the model. `env` says which model `--model tiny` is."""
PAPERS = EvalRollout(
    max_completion_length=(128, 256, 512), block_length=32, diffusion_steps=("length/2",), temperature=0.0
)
"""How d1 (arXiv 2504.12216) and SPG (arXiv 2510.09541) decode in evaluations, each problem once."""
PAPER_TASKS = ("gsm8k", "math500", "countdown", "sudoku")
"""The tasks on which both papers evaluate."""
PAPER_ENV_ARGS = {"prompt_style": "instruct", "reward_preset": "paper"}
"""The arguments with which `PAPER_TASKS` have the rewards of d1 and SPG, and a prompt for instruction-tuned models."""


@envs.own_files.each_file_once()  # an edit of the user's files waits for the next evaluation
def run_eval(requested: EvalCommand | Resolved[EvalCommand], *, quiet: bool = False) -> list[Evaluation]:
    """Evaluates a model under each protocol, length and number of steps of the command; returns them in that order.

    A protocol has the settings of the command (`ours`) or those of the papers (`papers`). With --perplexity, texts are
    measured instead (`run_perplexity`), and the result is [].

    Raises:
        ConfigError: numbers that cannot work; results of other settings under the same name.
        CheckpointError: the results cannot be written, which is checked before the model is opened.
    """
    if isinstance(requested, Resolved):
        resolved = requested
        check(resolved.config, resolved.origins)
    else:
        resolved = Resolved(requested)
        check(requested)
    command = resolved.config
    console = Console(quiet=quiet)
    model_settings = command.model
    refuse_changed_base(model_settings.model, run_holding(model_settings.model))
    if command.perplexity is not None:
        run_perplexity(command, resolved.origins, console)
        return []
    refuse_overridden_flags(command, resolved.origins)
    to_evaluate = evaluations_of(command)
    output_path = command.output_dir or run_holding(model_settings.model)
    folder = RunFolder(output_path) if output_path else None
    if folder is not None:
        check_writable(folder.path / "eval")
    notes: list[str] = []
    for _, env, _ in to_evaluate:
        notes += changed_files(model_settings.model, env)
    for note in dict.fromkeys(notes):  # several evaluations may have the same note
        console.warn(note)
    for note in changed_code(command):
        console.warn(note)
    for notice in dict.fromkeys(env.notice for _, env, _ in to_evaluate if env.notice):
        console.say(notice)
    accelerator = distributed.join(model_settings.device)
    policy = open_model(command, accelerator)
    if unseen_task := unseen(model_settings.model, command.env):
        _, first_env, _ = to_evaluate[0]
        unseen_task += f": {sft_command(first_env, command.env, command.env_args)}"
    for note in (unseen_task, crowded_cores(policy.device)):
        if note:
            console.warn(note)
    # The folder of the run that the model lies in, if the results are written there.
    run = None if command.output_dir else output_path
    with distributed.raising_on_all():
        model_facts = facts_of_model(model_settings.model, policy, run)
    rows_per_forward = None if policy.device.type == "cpu" else command.rows_per_forward
    players = [Player(policy, sampling, command.seed, rows_per_forward) for _, _, sampling in to_evaluate]
    with distributed.raising_on_all():  # all evaluations are checked before the first one begins
        for player in players:
            check_noise(policy.noise, player.sampling)
            check_pattern(base_model(policy.model).pattern, player.sampling)
        problems = [
            problems_to_ask(player.room, env, protocol_command.num_problems, protocol_command.overlong)
            for (protocol_command, env, _), player in zip(to_evaluate, players, strict=True)
        ]
    if resolved.origins.get(LENGTH) != FLAG:  # a user who names lengths needs no note on them
        for note in dict.fromkeys(
            other_lengths(sampling, model_settings.model) for _, _, sampling in to_evaluate
        ):
            if note:
                console.say(note)
    return [
        evaluate_one(
            protocol_command,
            env,
            player,
            count=len(indices),
            skipped=skipped,
            model_facts=model_facts,
            folder=folder,
            console=console,
            accelerator=accelerator,
        )
        for (protocol_command, env, _), player, (indices, skipped) in zip(
            to_evaluate, players, problems, strict=True
        )
    ]


def refuse_overridden_flags(command: EvalCommand, origins: Mapping[str, str]) -> None:
    """Raises ConfigError for flags that `papers`, if it is the only protocol, sets itself: all that decide on decoding,
    and --num-generations.
    """
    flags = [name for name, origin in origins.items() if origin == FLAG]
    overridden = [as_flag(name) for name in flags if name.startswith("rollout.") or name == "num_generations"]
    if overridden and {*command.protocol} == {"papers"}:
        raise ConfigError(
            f"--protocol papers decides over {', '.join(overridden)} itself. Leave out one or the other."
        )


def evaluations_of(command: EvalCommand) -> "list[tuple[EvalCommand, envs.TextEnv, Sampling]]":
    """Every evaluation that the command asks for: by protocol, then by length and number of steps.

    Each is (the command with the settings of its protocol, its environment, its length and number of steps).
    """
    evaluations = []
    for settings in [settings_of_protocol(command, protocol) for protocol in command.protocol]:
        env = make_env(settings.env, settings.env_args, settings.reward_weights, settings.split)
        check_rules(settings.rules, env)
        for sampling in settings.rollout.samplings():
            check_own_rules(sampling)
            evaluations.append((settings, env, sampling))
    return evaluations


def facts_of_model(model: str, policy: Policy, run: Path | None) -> dict[str, Any]:
    """What a result's file says of the model. run: the folder of a run, if model and file both lie in it; else None."""
    return {
        "model": "this run's" if run else model,  # a run may be moved
        "folder": model_beside(run, model) if run else None,
        "step": model_step(model),
        "dtype": str(policy.model.dtype),
        # The first process writes files.
        "content": {"the model": inputs.hash_of_model(model, with_prompts=True)}
        if distributed.rank() == 0
        else {},
    }


def run_perplexity(command: EvalCommand, origins: Mapping[str, str], console: Console) -> None:
    """Measures the texts of --perplexity, says the result and writes it to perplexity-NAME.json of a run."""
    given_flags = [name for name in origins if origins[name] == FLAG and not name.startswith("model.")]
    if idle := [as_flag(name) for name in given_flags if name not in PERPLEXITY]:
        raise ConfigError(
            f"--perplexity measures given texts, where {', '.join(idle)} has no effect. Leave it out."
        )
    if distributed.world_size() > 1:
        raise ConfigError("--perplexity runs in one process. Start it without a launcher.")
    output_path = command.output_dir or run_holding(command.model.model)
    folder = RunFolder(output_path) if output_path else None
    if folder is not None:
        check_writable(folder.path / "eval")
    policy = open_model(command, accelerator=None)
    if policy.noise == "uniform":
        raise ConfigError(
            "--perplexity measures models that hide a token by [MASK], and this one hides it by a random token. "
            "Evaluate it on a task."
        )
    # 0 = the blocks of attention, or the whole text if attention has none.
    block = command.rollout.block_length if BLOCK_LENGTH in given_flags else 0
    if block:
        one_block = Sampling(max_completion_length=block, block_length=block, diffusion_steps=block)
        check_pattern(base_model(policy.model).pattern, one_block)
    as_taught = None  # `choose_canvas` then takes the length that the model was taught
    lengths = command.rollout.max_completion_length if LENGTH in given_flags else (as_taught,)
    if len(lengths) > 1:
        raise ConfigError(f"--max-completion-length {' '.join(map(str, lengths))}: --perplexity takes one.")
    (length,) = lengths
    texts = read_texts(policy, command.perplexity)
    canvas, note = choose_canvas(policy, texts, length)
    if note:
        console.say(note)
    settings = {
        "num_masks": command.num_masks,
        "block_length": block,
        "max_completion_length": canvas,
        "seed": command.seed,
    }
    with console.progress(len(texts), "texts") as advance:
        perplexity = measure_perplexity(policy, texts, **settings, advance=advance)
    masks_of = f"a block of {block} tokens" if block else "each"
    low, high = perplexity.interval
    console.say(
        f"{command.perplexity}: ELBO {perplexity.elbo:.4f} nats a token, standard error "
        f"{perplexity.standard_error:.4f}, of {perplexity.tokens:,} tokens in {perplexity.texts:,} texts with "
        f"{command.num_masks} masks {masks_of}; perplexity at most {math.exp(-perplexity.elbo):.4f} [{low:.4f}, "
        f"{high:.4f}]."
    )
    if folder is not None:
        path = folder.write_perplexity(
            command.perplexity, {"file": command.perplexity, **settings, **perplexity.summary()}
        )
        console.say(f"Written: {path}")


def changed_files(model: str, env: "envs.TextEnv") -> list[str]:
    """A warning for each file of problems, or of a prompt, that has changed since the model was trained with it."""
    origin = model_environment(model).get("origin") or {}
    # {name of a file: "sha256 ..."}; `origin` also has what is no file, e.g. a data set of the hub with its commit.
    trained = {Path(name).name: state for name, state in origin.items() if state.startswith("sha256")}
    warnings = []
    for file, now in env.origin.items():
        before = trained.get(Path(file).name, now)  # a file that is new here has not changed
        if not now.startswith("sha256") or before == now:
            continue
        flag = "--env-args prompt_style=FILE, or the argument that names this file"
        if file.endswith(inputs.DATA):
            flag = "--env"
        warnings.append(
            f"{file} is not the file of this name that {model} was trained with ({before}, this one {now}). It is read "
            "as it is. To measure what was trained, put the old file back, or name a copy of it by "
            f"{flag}."
        )
    return warnings


def changed_code(command: EvalCommand) -> list[str]:
    """A warning for each file of code that has changed since the run was trained; it says which version judges.

    Code that the model's record names is run from the run's copy; a file that the user names is run as it is now. Call
    this after the task is made: only then are the modules beside its file loaded, and so known.
    """
    run = run_holding(command.model.model)
    if run is None:
        return []
    trained = {Path(entry.path).name: entry for entry in inputs.read_inputs(run).values() if entry.copy}
    settings, notes = inputs.file_settings(command), list[str]()
    for name, now in inputs.find_code(settings).items():
        file_name = Path(now.path).name
        if not (before := trained.get(file_name)):
            continue
        copy, is_there = run / before.copy, Path(before.path).is_file()
        if now.sha256 != before.sha256:
            notes.append(
                f"{file_name} has changed since {run} was trained with it. It is run as it is now; what the run used "
                f"is {copy}."
            )
        elif now.path == str(copy.absolute()) and is_there and inputs.hash_of(before.path) != before.sha256:
            setting, _, _ = name.partition(" ")  # `env 2` is the second file in `env`
            named = ""
            if setting in settings:  # no setting names a module beside a file, `env/helper.py`
                by_file = inputs.setting_naming(name, settings[setting].replace(now.path, before.path))
                named = f" To measure with the file as it is now: {by_file}."
            notes.append(
                f"{before.path} has changed since {run} was trained with it. The run's own copy is run, {copy}.{named}"
            )
    return notes


def open_model(command: EvalCommand, accelerator: Accelerator | None) -> Policy:
    """The model to evaluate, whose completions end as they did in its training."""
    model_settings = command.model
    check_processes(model_settings, distributed.world_size())
    device = distributed.own_device(model_settings.device, accelerator)
    with distributed.raising_on_all():
        policy = open_for_evaluation(model_settings, env=command.env, device=device)
    if model_settings.is_divided:
        divide_policy(policy, model_settings, device)
    return policy.ending_with(model_environment(model_settings.model).get("ends", "any"))


def evaluate_one(
    command: EvalCommand,
    env: "envs.TextEnv",
    player: Player,
    count: int,
    skipped: int,
    model_facts: dict[str, Any],
    folder: RunFolder | None,
    console: Console,
    accelerator: Accelerator | None,
) -> Evaluation:
    """Evaluates at one length and number of steps; prints the figures, and writes them to eval/ if there is a folder.

    command: with the settings of one protocol. count, skipped: how many problems are asked, and how many are too long
    for the model. model_facts: what `facts_of_model` returned.
    """
    policy, sampling = player.policy, player.sampling
    if note := note_of_fewer_problems(env, command.split, command.num_problems, count + skipped):
        console.say(note)
    if warning := length_warning(policy, env, sampling.max_completion_length):
        console.warn(warning)
    shared = {"split": command.split, "num_generations": command.num_generations}
    settings = evaluation_settings(env, sampling, **shared, num_problems=count, seed=player.seed)
    facts = {"verifier_rules": verifiers.RULES, "reward_weights": env.reward_weights, "settings": settings}
    to_measure = to_json({**model_facts, **facts})
    if code := inputs.find_code(inputs.file_settings(command)).values():
        to_measure["code"] = {Path(entry.path).name: entry.sha256 for entry in code}
    is_part_of_split = count < len(env)
    name = result_name(settings, is_part_of_split, model_facts["step"], beside=model_facts["folder"])
    if sampling.cache != "none":
        num_rows = min(BATCH, count * command.num_generations)
        console.say(player.memory_of_cache(num_rows))
    earlier_rows = distributed.decide_on_main(partial(begin, folder, name, to_measure)) if folder else []
    title = f"{env.spec_name} {command.split}, {sampling.max_completion_length} tokens in "
    title += ", ".join([f"{sampling.diffusion_steps} steps", *sampling.unusual])
    stop = StopRequest(at_once=folder is None)  # without a folder, nothing could be kept
    says_stopping = "Stopping; the completions that are finished are kept."
    with (
        keeping_finished(folder, name, console),
        stopping(stop, lambda: console.say(f"{says_stopping}{stop.how_at_once}")),
        unsharded(policy.model),
        console.progress(count, f"eval {title}") as advance,
    ):
        result = evaluate_checked(
            player,
            env,
            **shared,
            num_problems=command.num_problems,
            overlong=command.overlong,
            accelerator=accelerator,
            advance=advance,
            rows=earlier_rows,
            keep=partial(folder.add_completions, name) if folder else lambda completions: None,
            stops=lambda: stop.requested,
        )
    cells = cell_accuracy(result)
    console.say(f"{title}: {figures(result)}" + ("" if cells is None else f"; cell accuracy {cells:.3f}"))
    other_rules = [rules for rules in command.rules if rules != "ours"]
    by_other_rules = {rules: figures_by_rules(rules, env, result.rows) for rules in other_rules}
    for facts in by_other_rules.values():
        console.say("\n".join(comparison_text(facts)).strip())
    if folder is not None:
        with distributed.raising_on_all():
            content = {**to_measure, **result.summary(), "cell_accuracy": cells, **by_other_rules}
            path = folder.write_evaluation(name, content, result.rows)
        console.say(
            f"Written: {path}" + (f" ({len(earlier_rows)} completions were there)" if earlier_rows else "")
        )
    return result


@contextmanager
def keeping_finished(folder: RunFolder | None, name: str, console: Console) -> Iterator[None]:
    """Inside, an evaluation that was asked to stop ends the command, and a line says how much is kept."""
    try:
        yield
    except RolloutStopped as stopped:
        if folder is not None:
            count = len(distributed.decide_on_main(lambda: folder.completions(name)))
            console.say(
                f"{folder.evaluation_path(name)} has {plural(count, 'completion')}; the same command goes on from "
                "there."
            )
        raise distributed.raised_by_all(KeyboardInterrupt()) from stopped


def begin(folder: RunFolder, name: str, to_measure: dict[str, Any]) -> list[dict[str, Any]]:
    """Writes down what eval/NAME measures; returns the completions that an interrupted evaluation has left there.

    to_measure: the facts on the model, the settings and the code that the file records. Raises ConfigError if an
    earlier evaluation of this name measured something else.
    """
    before = folder.figures(name) or to_measure  # without an earlier evaluation, nothing can differ
    completions = folder.completions(name)
    file = folder.evaluation_path(name)
    for was, now in (
        (before.get("content", {}), to_measure["content"]),
        (before.get("code", {}), to_measure.get("code", {})),
        (before["settings"].get("origin", {}), to_measure["settings"].get("origin", {})),
    ):
        if changed_since := sorted(part for part in was.keys() & now.keys() if was[part] != now[part]):
            raise ConfigError(
                f"{file} was measured before {' and '.join(changed_since)} changed. To measure with what is there now, "
                "choose another --output-dir; to see what was measured, read that file."
            )
    # Compared above, part by part.
    compared = to_measure.keys() - {"code", "content"}
    old = {key: before.get(key) for key in compared}
    new = {key: to_measure[key] for key in compared}
    if changed := differences(flatten(old), flatten(new)):
        raise ConfigError(f"{file} measures something else: {changed}. Choose another --output-dir.")
    folder.write_evaluation(name, before, completions)  # written again, as a kill may have cut its last line
    return completions


def settings_of_protocol(command: EvalCommand, protocol: str) -> EvalCommand:
    """The command with the settings of one of its protocols; ConfigError for a task that the papers do not have."""
    if protocol == "ours":
        return command
    tasks = parse_tasks(command.env)
    if len(tasks) > 1 or tasks[0].ours not in PAPER_TASKS:
        raise ConfigError(
            f"--protocol papers: d1 and SPG evaluate {', '.join(PAPER_TASKS)}, not {command.env}. Leave it out."
        )
    env_args = {**command.env_args, **PAPER_ENV_ARGS}
    prompt_style = command.env_args.get("prompt_style")
    if prompt_style not in (None, "plain", "instruct"):  # a file of the user with a prompt of its own
        env_args["prompt_style"] = prompt_style
    return replace(command, env_args=env_args, rollout=PAPERS, num_generations=1)


def cell_accuracy(result: Evaluation) -> float | None:
    """The share of blanks that are filled rightly, the papers' accuracy of Sudoku; None where it is not measured."""
    if "paper_cells" not in result.rewards:
        return None
    shares_of_puzzles = [row["rewards"]["paper_cells"] for row in result.rows]
    blanks_of_puzzles = [row["puzzle"].count("0") for row in result.rows]
    return float(np.average(shares_of_puzzles, weights=blanks_of_puzzles))


def model_beside(run: Path, model: str) -> str | None:
    """The name of a model's folder inside its run, e.g. "merged"; None for a trained model, or elsewhere."""
    path, run = Path(model).expanduser().resolve(), run.resolve()
    inside = path.relative_to(run).parts if path.is_relative_to(run) else ()
    return inside[0] if inside and inside[0] not in ("model", "checkpoints") else None


def result_name(
    settings: dict[str, Any], is_part_of_split: bool, step: int | None, beside: str | None = None
) -> str:
    """ENV-SPLIT-LENGTHxSTEPS, then each unusual setting, the model's step, and the folder that `model_beside` names.

    E.g. "sudoku-test-16x8-g4-step100".

    Unusual settings are -bBLOCK (several blocks), -pPROBLEMS (a part of the split), -tTEMPERATURE, -gGENERATIONS,
    -sSEED, and what `Decoding.unusual` lists, e.g. -cache-dual. No character needs quotes in a shell, or means
    something to `glob`.
    """
    env = re.sub(r"[^\w.=,+-]+", "-", settings["env"]).strip("-.")[:80]
    length, block = settings["max_completion_length"], settings["block_length"]
    name = f"{env}-{settings['split']}-{length}x{settings['diffusion_steps']}"
    name += f"-b{block}" if block < length else ""
    name += f"-p{settings['num_problems']}" if is_part_of_split else ""
    name += f"-t{settings['temperature']:g}" if settings["temperature"] else ""
    name += f"-g{settings['num_generations']}" if settings["num_generations"] > 1 else ""
    name += f"-s{settings['seed']}" if settings["seed"] else ""
    decoding = Decoding(**{f.name: settings[f.name] for f in fields(Decoding)})
    name += "".join(f"-{setting.replace(' ', '-')}" for setting in decoding.unusual)
    name += "" if step is None else f"-step{step}"
    return f"{name}-{beside}" if beside else name


def model_step(model: str) -> int | None:
    """The training step of a run's model or checkpoint; None for other models."""
    if not Path(model).is_dir():
        return None
    source = resolve_model(model)
    for name in (ENVIRONMENT, "state.json"):
        content = read_json((source.adapter or Path(source.base)) / name) or {}
        if "step" in content:
            return content["step"]
    return None


def check_rules(rules: Sequence[str], env: "envs.TextEnv") -> None:
    """Raises ConfigError if rules that `--rules` names do not judge the task of an environment."""
    for name in rules:
        if name == "ours":
            continue
        verifiers.registry.find("gsm8k", name)  # loads the rules, all of which have gsm8k
        tasks = getattr(verifiers, name).TASKS
        if task_of(env) not in tasks:
            wrong = f"{env.spec_name} is none of the tasks that these rules have"
            raise ConfigError(f"--rules {name}: {wrong}, {', '.join(tasks)}. Leave the flag out.")


def figures_by_rules(rules: str, env: "envs.TextEnv", rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The solved rate of an evaluation's rows by other rules, and how often their verdicts differ from ours.

    A row's completion ends before its first end token; the published code also reads what follows that token.
    """
    task, tally = task_of(env), Counter()
    verifiers.registry.find(task, rules)  # loads the rules
    for row in rows:
        problem = env.problem(row["index"])
        finding = getattr(verifiers, rules).judge(
            task, row["completion"], {**problem.metadata, **problem.reference}
        )
        tally.update(verifiers.rule_comparison.compared(row["correct"], finding))
    return verifiers.rule_comparison.comparison_facts(rules, task, tally)


def comparison_text(facts: Mapping[str, Any]) -> list[str]:
    """The lines that show what `figures_by_rules` found."""
    return verifiers.rule_comparison.comparison_text(facts)


def task_of(env: "envs.TextEnv") -> str:
    """The task of `verifiers` that judges an environment's completions."""
    return getattr(env, "verifier", "") or env.spec_name.partition("[")[0]
