"""Opens a run from its plan, anew or from a checkpoint, and the source of its completions.

A run opens its source with its model, a dry run with the model's tokenizer alone; both refuse the same texts that do
not fit the model, before the first step.
"""

from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from typing import Any

from accelerate import Accelerator

from spg_trainer import distributed
from spg_trainer.architecture.shape import pattern_of
from spg_trainer.errors import ConfigError
from spg_trainer.estimate.fits import fitting_batch, memory_by_batch, usable_here, with_masked_copies
from spg_trainer.estimate.memory import arithmetic, rows_of_a_pass
from spg_trainer.evaluation.habits import sft_command
from spg_trainer.models import Policy, divide_policy, open_policy
from spg_trainer.models.forward import base_model, trainable_parameters
from spg_trainer.models.shard import unsharded
from spg_trainer.rollout.collect import EnvironmentSource, Source
from spg_trainer.rollout.demonstrations import Demonstrations, check_lengths
from spg_trainer.rollout.engine import Engine, EnginePlayer
from spg_trainer.rollout.long_prompts import SKIP, Room, TooLong
from spg_trainer.rollout.pairs import PairFile
from spg_trainer.rollout.player import Player
from spg_trainer.rollout.problems import check_prompts, deal_groups
from spg_trainer.rollout.tokens import length_warning
from spg_trainer.runs import checkpoint
from spg_trainer.runs.files import incomplete, read_json
from spg_trainer.runs.folder import SUMMARY, RunFolder
from spg_trainer.runs.inputs import read_inputs, write_inputs
from spg_trainer.runs.progress import Console
from spg_trainer.runs.resume import task_code_differs
from spg_trainer.runs.tracking import Trackers
from spg_trainer.settings.check import crowded_cores
from spg_trainer.settings.configs import AUTO, Config
from spg_trainer.settings.model import REFERENCE_FOLDER
from spg_trainer.settings.packages import envs
from spg_trainer.settings.recorded import model_environment, other_lengths, to_yaml
from spg_trainer.settings.weights import unseen
from spg_trainer.training.criteria import CRITERIA
from spg_trainer.training.optimize import make_optimizer
from spg_trainer.training.plan import Plan, asked_problems, check_attention, check_heads, settle
from spg_trainer.training.records import environment_record, load_checkpoint
from spg_trainer.training.run import Run, TrainingState


def open_run(planned: Plan, *, quiet: bool = False) -> Run:
    """Opens the model and the folder of a plan, and loads its checkpoint if the run goes on; once for a start."""
    model_settings = planned.config.model
    accelerator = planned.accelerator or distributed.make_accelerator(
        model_settings.device, planned.config.timeout_minutes
    )
    algorithm, splits = planned.algorithm, planned.splits
    path, checkpoint_folder = planned.folder, planned.checkpoint
    if planned.config.rollout_engine:
        distributed.decide_on_main(Engine(planned.config, path).require)
    policy = open_model(planned, accelerator)
    copies, rows = batch_of_device(planned, policy, accelerator.num_processes)
    config = with_masked_copies(planned.config, copies)
    # None leaves the number to the sampler, which on a CPU takes so few rows that they stay in the processor's cache.
    rows_per_forward = None
    if policy.device.type != "cpu":
        rows_per_forward = rows or rows_of_a_pass(config)
    with distributed.raising_on_all():
        attention = base_model(policy.model).pattern
        if planned.model_config is None or pattern_of(planned.model_config) != attention:
            model_type = base_model(policy.model).config.model_type
            check_attention(config, algorithm, model_type, attention, policy.noise)
        check_heads(base_model(policy.model).config, config.model.sequence_parallel)
        player = Player(policy, config.rollout, config.seed, rows_per_forward)
        source, skipped_note = open_source(planned, player)
        optimizer = make_optimizer(config.optimizer, trainable_parameters(policy.model))
    run = Run(
        config=config,
        state=TrainingState(),
        criterion=CRITERIA[config.validates],
        player=player,
        algorithm=algorithm,
        optimizer=optimizer,
        source=source,
        splits=splits,
        folder=RunFolder(path),
        console=Console(quiet=quiet),
        trackers=Trackers(),
        accelerator=accelerator,
    )
    if checkpoint_folder is not None:  # model, optimizer and pools become what they were there
        with distributed.raising_on_all():
            state = load_checkpoint(checkpoint_folder, policy, optimizer, source.pools)
            run = replace(run, state=state)
    try:
        prepare_folder(run, planned)
        settings_note = f"{planned.notice} {planned.demonstrations}".strip()
        introduce(run, settings_note, skipped_note)
        # `run_validation` skips a step that is listed in `state.validations`, and then does not save its weights
        # either. A run that was killed after validating step 0 and before saving it must do both again. Such a run has
        # no checkpoint, so its validations are not read here.
        if config.eval.eval_steps and checkpoint_folder is not None:
            run.state.validations = distributed.decide_on_main(run.folder.validations)
        if config.output.track:
            run.trackers.open(config.output.track, path, config)
    except BaseException:
        run.folder.release()
        raise
    return run


def plan_of(config: object, quiet: object, on_step: object, others: Mapping[str, object]) -> Plan:
    """The plan of a run, from the arguments of `train`; raises ConfigError for those that cannot be meant."""
    refuse_keywords(others)
    if quiet not in (None, True, False):  # None counts as not given; the text "false" would count as true
        raise ConfigError(f"train(quiet={quiet!r:.60}): should be True or False.")
    if on_step is not None and not takes_metrics_and_rows(on_step):
        raise ConfigError(
            f"on_step={on_step!r:.60}: should be a function, which is called as on_step(metrics, rows)."
        )
    return config if isinstance(config, Plan) else settle(of_python(config))


def takes_metrics_and_rows(function: object) -> bool:
    """Whether something can be called with two arguments, as far as its signature says."""
    try:
        signature(function).bind(None, None)  # type: ignore[arg-type]
    except TypeError:  # also of what cannot be called
        return False
    except ValueError:  # a function written in C need not say what it takes
        pass
    return True


def refuse_keywords(others: Mapping[str, object]) -> None:
    """Raises ConfigError for keywords of `train` that are settings or a policy, and says where these go."""
    if "policy" in others:
        raise ConfigError(
            "train takes no policy: it opens the model of its settings. A policy in memory is trained from a folder: "
            "save_model(policy, FOLDER), then train(defaults(Config, model=FOLDER, env=...))."
        )
    if others:
        name = next(iter(others))
        raise ConfigError(
            f"train takes no {name}: settings stand in its config, train(defaults(Config, {name}=..., ...))."
        )


def of_python(settings: object) -> Config:
    """The settings that a script has given to `train`; ConfigError for anything but a `Config` for a training."""
    if not isinstance(settings, Config):
        given = "None" if settings is None else f"a {type(settings).__name__}"
        raise ConfigError(
            f"train takes settings, as defaults(Config, env=..., model=...) returns them, not {given}. A policy in "
            "memory is trained from a folder: save_model(policy, FOLDER), then model=FOLDER."
        )
    if settings.dry_run or settings.config:
        raise ConfigError(
            "dry_run and config are for the command line. In Python, leave dry_run out, and read a file of settings "
            "with defaults(Config, config=FILE)."
        )
    return settings


def finished_summary(planned: Plan) -> dict[str, Any] | None:
    """The content of summary.json if the run that would go on has nothing left to do, else None.

    A run has something left to do in five cases: it is to make more steps; it goes on from an earlier checkpoint;
    --max-minutes ended it; the settings of its evaluations have changed; or its model/ is lost.
    """
    folder, config, before, newest = planned.folder, planned.config, planned.before, planned.checkpoint
    if before is None or newest is None:
        return None

    def summary_if_finished() -> dict[str, Any] | None:
        summary = read_json(folder / SUMMARY)
        if summary is None or before.eval != config.eval:
            return None
        is_last = newest == checkpoint.folder_of_step(folder, summary["steps"])
        has_ended = summary["ended_by"] == "patience" or config.max_steps == summary["steps"]
        has_model = not incomplete(folder / "model")
        return summary if is_last and has_ended and has_model else None

    return distributed.decide_on_main(summary_if_finished)


def open_model(planned: Plan, accelerator: Accelerator) -> Policy:
    """The model that the run starts from, with a reference if the algorithm needs one."""
    config, algorithm = planned.config, planned.algorithm
    device = distributed.own_device(config.model.device, accelerator)
    with distributed.raising_on_all():
        # end_tokens "any": every end token of the model ends a completion; "eos": only the tokenizer's does.
        policy = open_policy(
            planned.model,
            env=config.env,
            seed=config.seed,
            device=device,
            reference="reference" in algorithm.needs,
        ).ending_with(algorithm.end_tokens)
    if config.model.is_divided:
        divide_policy(policy, config.model, device)
    if config.model.sequence_parallel > 1:
        distributed.process_mesh(config.model.sequence_parallel, policy.device.type, config.timeout_minutes)
    # What the run writes names the original model (`source`), not the copy. environment.json of the copy has its name.
    if planned.own_copy:
        policy.source = model_environment(str(planned.own_copy))["base_model"]
    return policy


def introduce(run: Run, settings_note: str, skipped_note: str) -> None:
    """Prints warnings, and then what the run trains, with which model and where.

    settings_note: what the plan has to say. skipped_note: what `open_source` returned.
    """
    config, console, path = run.config, run.console, run.folder.path
    env, model_note = run.source.env, run.policy.note
    # `untaught_note` says that a model of this package, such as `tiny`, was not taught the task. If `model_note` ends
    # with it, the command that teaches the task is added, unless this run teaches it. A run that opened its own copy of
    # the model has no such note.
    untaught_note = unseen(config.model.model, config.env)
    if untaught_note and model_note.endswith(untaught_note):
        if config.source == "demonstrations":
            model_note = model_note.removesuffix(untaught_note)
        else:
            model_note += f": {sft_command(run.splits['train'], config.env, config.env_args)}"
    form_note = length_note = ""
    if env is not None and config.samples and not run.state.step:
        form_note = envs.unpaid_form(env)
    if env is not None:
        length_note = length_warning(run.policy, env, config.rollout.max_completion_length)
    cores_note = crowded_cores(run.policy.device)
    for note in (
        settings_note,
        model_note,
        run.source.notice,
        skipped_note,
        cores_note,
        length_note,
        form_note,
    ):
        if note:
            console.warn(note)
    if run.state.step:
        console.say(f"Continuing {path} from step {run.state.step}.")
    devices = distributed.gather([str(run.policy.device)])
    processes = "1 process" if len(devices) == 1 else f"{len(devices)} processes"
    where = f"{processes} on {', '.join(dict.fromkeys(devices))}"
    console.say(
        f"{run.splits['train'].spec_name}, {config.algorithm}, model {config.model.model}, {where}; run folder {path}"
    )
    turns = env.max_turns if env is not None else 1
    console.say(arithmetic(config, run.algorithm, run.accelerator.num_processes, turns))
    if note := other_lengths(config.rollout, config.model.model):
        console.say(note)
    asks_to_move_reference = "reference" in run.algorithm.needs and run.algorithm.ref_model_sync_steps > 0
    if asks_to_move_reference and not run.moves_reference:
        console.say(
            f"The reference stays the start of the run. {config.algorithm} moves its reference (ref_model_sync_steps) "
            "only if all weights are trained, with $lora_r=0 $ref_copy."
        )
    if config.rollout.cache != "none" and env is not None:
        prompt_lengths = [0] * config.batch.prompts_per_step  # as if all were equally long
        episodes_here = deal_groups(prompt_lengths, config.batch.num_generations, run.algorithm.dealt_by)
        completions = max(distributed.gather([len(episodes_here)]))
        # The cache holds keys and values in the dtype in which the model computes. That is `model.dtype`; but if the
        # weights are divided, `model.dtype` is this dtype only inside `unsharded`.
        with unsharded(run.policy.model):
            console.say(run.player.memory_of_cache(completions))


def batch_of_device(planned: Plan, policy: Policy, num_processes: int) -> tuple[int, int | None]:
    """(copies, rows): how many masked copies an update takes at once, and how many completions a rollout does.

    They are what `fitting_batch` returns. For `auto`, these differ between devices, and all processes take the least.
    With `auto`, a run that goes on takes the numbers of before, if they still fit, so that it rounds as before.
    """
    config, algorithm = planned.config, planned.algorithm
    is_auto = config.batch.per_device_batch_size == AUTO
    kind, model_config = policy.device.type, base_model(policy.model).config
    memory_of = memory_by_batch(config, algorithm, model_config, num_processes, on_cpu=kind == "cpu")
    # `fitting_batch` reads the usable memory only if the setting is `auto`.
    usable = usable_here(policy.device, num_processes) if is_auto else 0.0
    on_cuda = kind == "cuda"
    copies, rows = fitting_batch(
        config, algorithm, memory_of, usable, processes=num_processes, on_cuda=on_cuda
    )
    # All processes take the least of what fits on their devices.
    numbers_of_devices = distributed.gather([(copies, rows)])
    copies = min(copies_of_device for copies_of_device, _ in numbers_of_devices)
    if rows is not None:
        rows = min(rows_of_device or 1 for _, rows_of_device in numbers_of_devices)
    before = planned.before
    if is_auto and before and before.batch.per_device_batch_size == AUTO:
        timings = distributed.decide_on_main(lambda: RunFolder(planned.folder).last_timings())
        copies = min(copies, timings.get("per_device_batch_size", copies))
        if rows is not None:
            rows = min(rows, timings.get("rows_per_forward", rows))
    return copies, rows


def prepare_folder(run: Run, planned: Plan) -> None:
    """Makes the run folder, or if the run continues, removes from it all that is later than the checkpoint.

    In both cases the folder is locked against other processes, the settings and inputs of the run are written down, and
    its history is read. The weights of the reference are copied into the folder if a resumed run could not make them
    again. config.yaml gets the planned settings, in which --per-device-batch-size auto is still `auto`.
    """
    config, path = planned.config, run.folder.path
    with distributed.raising_on_all():
        # Settings that are for one start only, such as --resume, are not recorded.
        recorded = replace(config, output=config.output.recorded)
        settings = to_yaml(recorded)
        if planned.before is None:
            run.folder.create(settings, environment_record(run), planned.inputs)
        else:
            run.folder.truncate_after(run.state.step)
            if run.accelerator.is_main_process:
                if task_code_differs(read_inputs(path), planned.inputs):
                    run.folder.set_aside_evaluations(run.state.step)
                write_inputs(path, planned.inputs)
            run.folder.write_config(settings)
    run.state.history = distributed.decide_on_main(run.folder.history)
    run.state.judged_since = distributed.decide_on_main(
        lambda: run.folder.last_step_of_other_code(run.state.step)
    )
    # The reference of fresh adapters is the base model without them, which can be opened again.
    needs_copy = "reference" in run.algorithm.needs and not run.policy.fresh_adapters
    if needs_copy and planned.own_copy is None:
        with distributed.raising_on_all():
            checkpoint.export(path / REFERENCE_FOLDER, run.policy, environment_record(run))


def open_source(planned: Plan, player: Player) -> tuple[Source, str]:
    """(the source of completions, a note on the problems that are skipped as too long).

    player: its model's weights are not needed. Raises ConfigError for texts that do not fit and are not skipped.
    """
    config, algorithm, splits = planned.config, planned.algorithm, planned.splits
    policy = player.policy
    source: Source
    if config.source == "pairs":
        source = PairFile(config, policy, planned.pairs)
    elif config.source == "demonstrations":
        train, held_out = splits["train"], splits["held_out"]
        skipped = check_lengths(player.room, [train, held_out], planned.mix, config)
        notice = f"{train.notice} {skipped}".strip()
        source = Demonstrations(train, held_out, policy, config, planned.mix, notice)
    else:
        # `Algorithm` in algorithms/base.py says what its three attributes mean.
        writing = replace(player, records=algorithm.records)
        if config.rollout_engine:
            writing = EnginePlayer(**vars(writing), engine=Engine(config, planned.folder))
        source = EnvironmentSource(
            splits["train"],
            writing,
            config,
            dealt_by=algorithm.dealt_by,
            right_groups_teach=algorithm.right_groups_teach,
        )
    return source, check_prompts_fit(config, player.room, splits)


def check_prompts_fit(config: Config, room: Room, splits: "Mapping[str, envs.TextEnv]") -> str:
    """A note on the problems that are skipped as too long for the model, "" if there are none.

    The problems of evaluations, validations and training are looked at. But if training has a stream of problems (more
    than 20,000 that come from no file, e.g. generated ones), each is looked at only when it is drawn. Raises
    ConfigError if a problem is too long and may not be skipped (--overlong), or if too few are left for a step.
    """
    too_long = TooLong(room)
    if config.samples:
        too_long.add_split(splits["train"])
    # For a mixture, the number of problems that remain is not checked. A mixture repeats the problems of tasks that
    # have few, so this number is not len(train) minus the number of problems that are too long.
    if config.samples and config.overlong == SKIP and not splits["train"].parts:
        train = splits["train"]
        num_left = len(train) - len(too_long.named)
        check_prompts(config.batch.prompts_per_step, num_left, train.spec_name, too_long.text)
    for env, indices in asked_problems(config.eval, splits):
        too_long.add(env, indices)
    return too_long.note(config.overlong)
