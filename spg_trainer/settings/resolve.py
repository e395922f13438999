"""Finds the value of each setting in a list of layers, and keeps the name of the layer that it comes from.

A layer has the values of some settings from one source, and overrides the layers below it. From the lowest to the
highest they are:

1. the defaults of the dataclass (`configs.py`);
2. the task's recipe (`recipes/`), which names its algorithm;
3. what is published for the model's family: its decoding, and the layers of LoRA adapters;
4. the algorithm's recipe (`algorithms/recipes.yaml`);
5. the model's environment.json; if the model was made for another task, only its decoding;
6. --config FILE;
7. flags.

For a run that is resumed, its own config.yaml replaces the layers 2 to 5.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from shlex import quote
from typing import Any, Generic, TypeVar

from spg_trainer.errors import ConfigError, as_flag
from spg_trainer.settings import packages  # `packages.verifiers` is ours, loaded on first use
from spg_trainer.settings.configs import Config, EvalCommand, TaskSettings
from spg_trainer.settings.decoding import LENGTHS, Decoding, EvalSampling, Sampling, steps_at_rate
from spg_trainer.settings.flags import RATE, arguments_of_rows, read_keywords, read_words
from spg_trainer.settings.model import LoadConfig, find_adapter
from spg_trainer.settings.recipes import Layer, algorithm_recipe, recipe_of_all
from spg_trainer.settings.recorded import CONFIG, ENVIRONMENT, model_environment, read_yaml, recipe_kind
from spg_trainer.settings.task import (
    ARGUMENTS,
    join_arguments,
    join_names,
    parse_tasks,
    refuse_unknown,
    task_names,
    with_arguments,
)
from spg_trainer.settings.types import (
    check_values,
    flatten,
    plain,
    read_leaf,
    read_nested,
    replace_nested,
    settings_of,
)
from spg_trainer.settings.weights import canvases_of, family_layer, newest_checkpoint

Settings = TypeVar("Settings")

FLAG = "flag"
"""The origin of settings that come from flags or keywords. An origin is the name of the layer that set a value."""
TRAINING = "training on"
"""How an origin begins if `eval`, or a training on demonstrations, takes a setting from those that a training by RL on
the task would have: `training on sudoku`."""
FOR_ADAPTERS = ("model.lora_alpha", "model.lora_dropout", "model.lora_targets", "model.load_4bit")
"""The settings that need adapters (--lora-r above 0), so that a recipe's values do not stand if all weights are
trained."""
REDRAWS = "redraws"
"""The kind of an algorithm's recipe that lies over the others for a model which hides a token by a random one."""
JUDGES = ("verifier", "reward")
"""The arguments that name what judges the completions of a task from a file of the user's own rows. If the user gives
one of them, neither is taken from a recipe or a model."""


@dataclass(frozen=True)
class Resolved(Generic[Settings]):
    """The settings of a command, and the layer that has set each of them."""

    config: Settings
    origins: Mapping[str, str] = field(default_factory=dict)
    """{dotted name of a setting, e.g. `optimizer.learning_rate` or `env_args.blanks`: the layer that set it}. Any other
    setting has the default of the dataclass, or was set by the code that made `config`."""


def resolve(cls: type[Settings], words: Sequence[str] = (), **keywords: Any) -> Resolved[Settings]:
    """The settings of the command `cls` from the words of a command line, or from keywords named like its flags.

    A keyword that is None counts as not given. Raises ConfigError for an unknown name, a wrong value, or a file that
    cannot be read.
    """
    typed, known = read_words(cls, words) if words else read_keywords(cls, keywords), settings_of(cls)
    flags: dict[str, Any] = {}
    for name, value in typed.items():
        dotted, hint = known[name]
        flags |= read_leaf(dotted, value, hint, f"{as_flag(name)} ")
    user = [Layer(FLAG, flags)]
    if file := flags.get("config"):
        content = read_yaml(file)
        is_read = isinstance(content, dict)
        of_rows = {name: content.pop(name) for name in ARGUMENTS if name in content} if is_read else {}
        values = read_layer(cls, Layer(file, content)).values
        if of_rows:
            arguments = arguments_of_rows(values.get("env", ""), of_rows, values.get("data"))
            values |= {f"env_args.{name}": value for name, value in arguments.items()}
        user = [Layer(file, values), *user]
    if not issubclass(cls, TaskSettings):
        return merge_layers(cls, user)
    user = [with_short_forms_expanded(layer) for layer in user]
    given = {name: value for layer in user for name, value in layer.values.items()}
    below = layers_below(cls, given)
    dropped = overruled(given, below, rank=last_value([*below, *user], "model.lora_r", 0))
    return merge_layers(cls, [*(layer.without(dropped) for layer in below), *user])


def overruled(given: Mapping[str, Any], below: Sequence[Layer], rank: int) -> set[str]:
    """The dotted names of the settings that the user's settings, and a rank of 0, remove from the layers below.

    E.g. --reward removes the `verifier=gsm8k` with which a model was made, since only one of them judges a task, and
    the columns of that verifier, `answer=solution`, since a function may have a parameter `answer` of its own. A rank
    of 0 removes what a recipe has for adapters.
    """
    names = set(FOR_ADAPTERS) if rank == 0 else set()
    for setting in given:
        group, _, argument = setting.rpartition(".")  # `env_args`; among several tasks, `env_args.TASK`
        if argument in JUDGES:
            names |= {f"{group}.{judge}" for judge in JUDGES}
            verifier, reward = (last_value(below, f"{group}.{judge}", "") for judge in JUDGES)
            if f"{group}.verifier" not in given and not reward and verifier:
                own = {f"{group}.{name}" for name in packages.envs.files.rows.ARGUMENTS}
                all_names = {name for layer in below for name in layer.values}
                names |= {name for name in all_names - own if name.rpartition(".")[0] == group}
    return names


def with_short_forms_expanded(layer: Layer) -> Layer:
    """A layer of the user, in which two short forms have become the settings that they stand for.

    - An `env` with arguments, `countdown:level=2`, becomes `env` `countdown` and `env_args.level` 2. Each task then has
      the name of `Task.with_one_name`.
    - A file of `pairs` sets `source` to `pairs`, unless the layer sets `source` itself.
    """
    source = {"source": "pairs"} if layer.values.get("pairs") else {}
    tasks = parse_tasks(layer.values.get("env") or "")
    arguments = {f"env_args.{key}": value for key, value in join_arguments(tasks).items()}
    env = {"env": join_names(task.with_one_name() for task in tasks)} if tasks else {}
    # The layer's own values override what the short forms stand for; only `env` itself is replaced.
    return Layer(layer.origin, {**arguments, **source, **layer.values, **env})


def read_layer(cls: type, layer: Layer) -> Layer:
    """A nested layer, as in files, turned into {dotted name: value of the setting's type}."""
    return Layer(layer.origin, read_nested(cls, layer.values, lambda name: f"{layer.origin}: {name}"))


def merge_layers(cls: type[Settings], layers: Iterable[Layer]) -> Resolved[Settings]:
    """The settings of a command from the dataclass's defaults and layers; a later layer overrides an earlier one."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        values |= layer.values
        origins |= dict.fromkeys(layer.values, layer.origin)
    config = replace_nested(cls(), values)
    return Resolved(config, origins)


def last_value(layers: Iterable[Layer], name: str, default: Any) -> Any:
    """The value of a setting, by its dotted name, in the last of the layers that has it; `default` if none has."""
    return next((layer.values[name] for layer in reversed([*layers]) if name in layer.values), default)


def layers_below(cls: type, given: Mapping[str, Any]) -> list[Layer]:
    """The layers between the dataclass's defaults and the user's --config and flags.

    They come from the run that is resumed, or else from recipes and the model. cls: a command on a task. given: the
    user's settings, by dotted name.
    """
    if run := find_resumed(cls, given):
        return layers_of_run(cls, run, given)
    imitates = given.get("source") == "demonstrations"
    # Demonstrations teach fresh weights ("new") unless the user names a model.
    name = given.get("model.model", "new" if imitates else LoadConfig.model)
    record = model_environment(name)
    origin, made_for = f"{name}/{ENVIRONMENT}", parse_tasks(record.get("env") or "")
    of_model = join_names(task.with_one_name() for task in made_for)
    # The texts of a file need no task; other commands have the model's, or the default.
    env = given.get("env", of_model or ("" if given.get("data") else TaskSettings.env))
    first = [Layer(origin, {"env": of_model})] if made_for else []
    if not env:
        first = [Layer("--data", {"env": ""})]
    chat = {"model": {"chat_template_args": record.get("chat_template_args", {})}}
    if cls is Config and not imitates:
        layers = layers_for_rl(env, name, record, given.get("algorithm"))
    else:  # `eval` and demonstrations take settings from those that a training by RL on the task would have
        rl = merge_layers(Config, layers_for_rl(env, name, record))
        layers = layers_for_eval(env, rl, record, origin) if cls is EvalCommand else []
        layers = layers or layers_for_demonstrations(env, rl.config, name, record)
    return [*first, *layers, read_layer(cls, Layer(origin, chat))]


def layers_for_rl(
    env: str, model: str, record: Mapping[str, Any], algorithm: str | None = None
) -> list[Layer]:
    """The layers of recipes, and over them the layer of the model's environment.json.

    record: that file. algorithm: the user's; None = the algorithm of the task's recipe.
    """
    from spg_trainer.algorithms.registry import name_in_recipes

    tasks, kind = parse_tasks(env), recipe_kind(model, record)
    recipes = recipe_of_all(tasks, kind)
    if kind != "tiny" and (of_family := family_layer(model)):
        recipes.append(of_family)
    algorithm = algorithm or last_value(recipes, "algorithm", Config.algorithm)
    recipes += algorithm_recipe(name_in_recipes(algorithm), tasks, kind)
    if canvases_of(model):
        recipes += algorithm_recipe(name_in_recipes(algorithm), tasks, REDRAWS)
    recorded = settings_made_with(env, record) or recorded_decoding(recipes, record)
    from_recipes = [read_layer(Config, layer) for layer in for_model(model, recipes)]
    layers = [*from_recipes, read_layer(Config, Layer(f"{model}/{ENVIRONMENT}", recorded))]
    if last_value(from_recipes, "rollout.block_length", None) == 1:
        # `justgrpo` decodes token by token, with a step for each, even with a model that was taught blocks of 32.
        length = last_value(layers, "rollout.max_completion_length", Sampling.max_completion_length)
        one_by_one = {"rollout.block_length": 1, "rollout.diffusion_steps": length}
        layers.append(Layer(from_recipes[-1].origin, one_by_one))
    return [*layers, *canvas_layer(model, layers)]


def canvas_layer(model: str, below: Sequence[Layer]) -> list[Layer]:
    """A layer, to lie over all of `below`, by which a model writes canvases; [] for a model that writes none.

    The completion is as long as it would be, rounded up to whole canvases, as the model's own `generate` rounds it. A
    length of 0 stays 0.
    """
    canvases = canvases_of(model)
    if canvases is None:
        return []
    length = last_value(below, "rollout.max_completion_length", default=Sampling.max_completion_length)
    values = {
        "unmasking": "entropy_bound",
        "block_length": canvases.length,
        "max_completion_length": -(-length // canvases.length) * canvases.length,
        "diffusion_steps": steps_at_rate(canvases.length / canvases.steps),
        "remasking": Sampling.remasking,
    }
    return [Layer(f"{model}: canvases", {f"rollout.{name}": value for name, value in values.items()})]


def layers_for_eval(env: str, rl: Resolved[Config], record: Mapping[str, Any], origin: str) -> list[Layer]:
    """The layers from which `eval` takes the arguments of its task, the decoding and the number type.

    Arguments and decoding are those of `rl`, the settings of a training by RL on the task. Their origin is this
    training; but decoding that the training would itself take from the model's environment.json keeps that file as its
    origin. The number type is the one that environment.json records.
    """
    names = ("max_completion_length", "block_length", *(f.name for f in fields(Decoding)))
    rollout = {name: getattr(rl.config.rollout, name) for name in names}
    rollout["diffusion_steps"] = steps_at_rate(rl.config.rollout.tokens_per_step)
    from_record = {
        name: value for name, value in rollout.items() if rl.origins.get(f"rollout.{name}") == origin
    }
    dtype = record.get("dtype", "auto")
    values = {"env_args": rl.config.env_args, "rollout": rollout, "model": {"dtype": dtype}}
    # The second layer repeats some values of the first one, to give them the model's file as their origin.
    layers = Layer(f"{TRAINING} {env}", values), Layer(origin, {"rollout": from_record})
    return [read_layer(EvalCommand, layer) for layer in layers]


def layers_for_demonstrations(env: str, rl: Config, model: str, record: Mapping[str, Any]) -> list[Layer]:
    """The layers of a training on demonstrations: settings of `rl` (those of a training by RL on the task), the recipe
    `sft`, and the length that the model was taught.
    """
    kind = recipe_kind(model, record)
    decoding = {
        "temperature": rl.rollout.temperature,
        "block_length": 0,  # it is chosen to fit the length and the model (`fitting_block`)
        # A small model decodes fast enough for one token a step, even if its recipe trains with more.
        "diffusion_steps": steps_at_rate(1.0 if kind == "tiny" else rl.rollout.tokens_per_step),
        "remasking": rl.rollout.remasking,
    }
    taught = settings_made_with(env, record).get("rollout", {})
    length = {name: value for name, value in taught.items() if name == "max_completion_length"}
    layers = (
        Layer("--source demonstrations", {"model": {"model": model}}),
        Layer(f"{TRAINING} {env or 'any task'}", {"env_args": rl.env_args, "rollout": decoding}),
        *for_model(model, recipe_of_all(parse_tasks(env), f"{kind} sft")),
        Layer(f"{model}/{ENVIRONMENT}", {"rollout": length}),
    )
    if canvases_of(model):
        algorithm = last_value(layers, "algorithm", Config.algorithm)
        layers += tuple(algorithm_recipe(algorithm, parse_tasks(env), REDRAWS))
    read = [read_layer(Config, layer) for layer in layers]
    return [*read, *canvas_layer(model, read)]


def for_model(model: str, recipes: list[Layer]) -> list[Layer]:
    """The recipes as they are; for an adapter without their group `model`, because its rank and scale are fixed."""
    return [layer.without(["model"]) for layer in recipes] if find_adapter(model) else recipes


def settings_made_with(env: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments and the decoding that a model was made with, if it was made for the tasks of `env`; else {}.

    A model that learned from texts was made for no task, so its decoding is taken for any `env`. If the model was made
    for several tasks, and `env` is one of them, only this task's arguments are taken, and no arguments if several of
    the tasks have its name. record: its environment.json.
    """
    from spg_trainer.runs.inputs import DATA, hash_of

    args, tasks = record.get("env_args") or {}, parse_tasks(env)
    made_for = parse_tasks(str(record.get("env", env)))
    if len(made_for) > 1 and len(tasks) == 1:
        made_for = tuple(task for task in made_for if task.short == tasks[0].short)
        # If several tasks have this name, nothing tells which of them `env` is.
        args = with_arguments(made_for[0], args).args if len(made_for) == 1 else {}
        made_for = made_for[:1]
    if [task.short for task in made_for] != [task.short for task in tasks]:
        # A file of rows under another name is the same task if it has the content of the one that was learned.
        hashes = [state for name, state in (record.get("origin") or {}).items() if name.endswith(DATA)]
        if len(hashes) != 1 or not os.path.isfile(env) or hashes != [f"sha256 {hash_of(env)}"]:
            return {}
    return {"env_args": args, "rollout": record.get("rollout") or {}}


def recorded_decoding(recipes: Iterable[Layer], record: Mapping[str, Any]) -> dict[str, Any]:
    """The decoding that a model was taught on another task, without the settings that one of `recipes` sets.

    recipes: those of the task and of the algorithm. Only a recipe for this very task (`Layer.of_task`) counts as
    setting lengths: the lengths that a recipe has for every task are a worse guess than those of the model.
    """
    set_names: set[str] = set()
    for layer in recipes:
        names = set(layer.values.get("rollout", {}))
        set_names |= names - {*LENGTHS}
        if layer.of_task and names & {*LENGTHS}:
            set_names |= {*LENGTHS}  # all three, since they must come from one source
    recorded = record.get("rollout") or {}
    return {"rollout": {name: value for name, value in recorded.items() if name not in set_names}}


def find_resumed(cls: type, given: Mapping[str, Any]) -> Path | None:
    """The folder of the run that --resume continues; None if no run is resumed.

    The result is also None for `--resume auto` without --output-dir. For this case, `runs.folder.choose_folder` later
    looks for the newest run with the same settings, once these are known. The checkpoint is chosen there, too.
    """
    resume = given.get("output.resume")
    if resume == "auto":
        resume = given.get("output.output_dir")
    if cls is EvalCommand or resume is None:
        return None
    # --resume names a run folder, or a checkpoint up to three folders below one.
    place = Path(resume).resolve()
    return next((run for run in (place, *list(place.parents)[:3]) if (run / CONFIG).is_file()), None)


def layers_of_run(cls: type, run: Path, given: Mapping[str, Any]) -> list[Layer]:
    """The settings of a resumed run, without its output folder. For code that is gone, they name the run's own copy.

    Raises ConfigError for data that is gone, unless the user names its new place. Raises it as well if the user names
    another of our algorithms than the run's, or if the run's algorithm no longer exists.
    """
    from spg_trainer.algorithms.registry import is_known, replacement
    from spg_trainer.runs.inputs import refuse_gone, with_copies

    recorded = read_layer(cls, Layer(str(run / CONFIG), with_copies(run, read_yaml(run / CONFIG))))
    algorithm = recorded.values.get("algorithm")
    algorithm_now = given.get("algorithm")
    if isinstance(algorithm, str) and not is_known(algorithm):
        # A run that has not ended has no model/ yet.
        weights = run if (run / "model").is_dir() else newest_checkpoint(run) or run
        raise ConfigError(
            f"{run} is a run of {algorithm!r}, an algorithm that this version does not have, so it cannot go on. Begin "
            f"a new run from its weights: $model={quote(str(weights))} $algorithm={replacement(algorithm) or 'NAME'}."
        )
    # Another algorithm would refuse the run's arguments as unknown. But a user's own algorithm, which has ":" in its
    # name, may only have been moved.
    is_another = algorithm_now not in (None, algorithm)
    may_be_moved = all(":" in str(name) for name in (algorithm, algorithm_now))
    if is_another and not may_be_moved:
        raise ConfigError(
            f"{run} is a run of other settings: algorithm was {algorithm!r}, now {algorithm_now!r}. Resume it "
            "with its own, or use another $output_dir."
        )
    refuse_gone(run, given)
    no_folder = Layer("default", {"output.output_dir": None})  # the run may have been moved
    return [recorded, no_folder]


def defaults(
    cls: type[Settings],
    env: str | Path | type | Sequence[str | Path | type] | None = None,
    model: str | Path | None = None,
    algorithm: str | type | None = None,
    **more: Any,
) -> Settings:
    """The settings of a command for a task, a model and an algorithm, with all other values from recipes and the model.

    env: a name as for --env, a registered class of an environment, or several of these. algorithm: a name as for
    --algorithm, or your own class from a file. more: any other flags of the command, also `config`; a function from a
    file, such as a reward, may be given in place of its name. Raises ConfigError for an unknown task, algorithm or
    setting, for a number out of range, and for a function or a class that is not in a file.

    `defaults(Sampling, ...)` returns the decoding of a training on the task, and `defaults(EvalSampling, ...)` that of
    an evaluation, at temperature 0. Both have the lengths that the model was taught. more: settings of decoding.
    """
    if isinstance(cls, type) and issubclass(cls, Sampling):
        return sampling_of(cls, env, model, algorithm, more)
    if not isinstance(cls, type) or not issubclass(cls, TaskSettings):
        raise ConfigError(
            f"defaults({getattr(cls, '__name__', cls)!s:.60}, ...): there are defaults of Config, EvalCommand, "
            "Sampling and EvalSampling. Those of a group are in defaults(Config, ...)."
        )
    env = task_names(env) if env is not None else None
    for task in parse_tasks(env or ""):
        # Only a bare name is checked here; a name with a path or a module is checked when it is opened.
        if re.fullmatch(r"[\w ,-]+", task.env):
            refuse_unknown(task)
    config = resolve(cls, env=env, model=model, algorithm=algorithm, **more).config
    check_values(config)
    # An algorithm from a file is checked when it is opened.
    if isinstance(config, Config) and ":" not in config.algorithm:
        from spg_trainer.algorithms.registry import build, find_algorithm

        find_algorithm(config.algorithm)
        if more.get("algorithm_args"):  # an unknown hyper-parameter is refused
            build(config.algorithm, config.hyper_parameters)
    return config


def note_on_missing_recipe(config: Config) -> str:
    """A note for the user if a `Config` was made without its task's recipe, as by `Config(env="sudoku")`; else "".

    One or two settings that differ from the recipe get no note, since the user may have given these values.
    """
    # The settings of `DECIDING`, without those that resume a run; the model and the remasking are passed below.
    # `resolve` takes None, not "", for a setting that is not given.
    given = {name: getattr(config, name) or None for name in ("env", "source", "algorithm", "pairs", "data")}
    recipe = resolve(Config, model=config.model.model, remasking=config.rollout.remasking, **given).config
    class_defaults = flatten(plain(Config()))
    present = flatten(plain(config))
    recipe_values = flatten(plain(recipe))
    lost = []  # settings whose value is the class's own default, while the recipe has another value
    for name, value in recipe_values.items():
        if present.get(name) == class_defaults.get(name) and present.get(name) != value:
            _, _, own_name = name.rpartition(".")
            lost.append(f"{own_name} {present.get(name, 'none')} ({value})")
    if len(lost) < 3:
        return ""
    return (
        f"{len(lost)} settings are what Config(...) has by itself, and not the recipe's, here in brackets: "
        f"{', '.join(lost)}. defaults(Config, env={config.env!r}, ...) begins with the recipe."
    )


def sampling_of(
    cls: type[Settings], env: Any, model: str | Path | None, algorithm: Any, more: Mapping[str, Any]
) -> Settings:
    """The decoding of a training, or of an evaluation if `cls` is `EvalSampling`. more: settings that override it."""
    # `Config` knows most settings of `more`. The others are in `cls` alone, which refuses those that it lacks.
    shared = settings_of(cls).keys() & settings_of(Config).keys() | {RATE}
    own = {name: value for name, value in more.items() if name not in shared}
    greedy = {"temperature": 0.0} if issubclass(cls, EvalSampling) else {}  # unless `more` has a temperature
    for_config = {**greedy, **{name: value for name, value in more.items() if name in shared}}
    rollout = defaults(Config, env, model, algorithm, **for_config).rollout
    return cls(**{f.name: getattr(rollout, f.name) for f in fields(Sampling)}, **own)
