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
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Generic, NamedTuple, TypeVar

from spg_trainer.errors import ConfigError, as_flag, did_you_mean
from spg_trainer.settings import packages  # `packages.verifiers` is ours, loaded on first use
from spg_trainer.settings.configs import Config, EvalCommand, TaskSettings
from spg_trainer.settings.decoding import LENGTHS, Decoding, EvalDecoding, Sampling, steps_at_rate
from spg_trainer.settings.flags import (
    RATE,
    SHORT,
    add_argument_of_rows,
    flags_of,
    place_of,
    read_keywords,
    read_words,
)
from spg_trainer.settings.model import LoadConfig, find_adapter
from spg_trainer.settings.recipes import Layer, algorithm_recipe, recipe_of_all
from spg_trainer.settings.recorded import CONFIG, ENVIRONMENT, model_environment, read_yaml, recipe_kind
from spg_trainer.settings.task import (
    Task,
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
    hints,
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
DECIDING = frozenset(
    "env source algorithm pairs data model.model rollout.remasking output.resume output.output_dir".split()
)
"""The settings that decide, together with the arguments of tasks, which layers all other settings come from."""
FOR_ADAPTERS = ("model.lora_alpha", "model.lora_dropout", "model.lora_targets", "model.load_4bit")
"""The settings that need adapters (--lora-r above 0), so that a recipe's values do not stand if all weights are
trained."""
REDRAWS = "redraws"
"""The kind of an algorithm's recipe that lies over the others for a model which hides a token by a random one."""
JUDGES = ("verifier", "reward")
"""The arguments that name what judges the completions of a task from a file of the user's own rows. If the user gives
one of them, neither is taken from a recipe or a model."""


class KnownModel(NamedTuple):
    """What is known of the model that a command names, before it is opened; read once."""

    name: str
    record: Mapping[str, Any]
    """Its environment.json (`model_environment`)."""
    kind: str
    """The kind of its recipes (`recipe_kind`)."""

    @property
    def origin(self) -> str:
        """The origin of settings from its environment.json."""
        return f"{self.name}/{ENVIRONMENT}"


@dataclass(frozen=True)
class Resolved(Generic[Settings]):
    """The settings of a command, and the layer that has set each of them."""

    config: Settings
    origins: Mapping[str, str] = field(default_factory=dict)
    """{dotted name of a setting, e.g. `optimizer.learning_rate` or `env_args.blanks`: the layer that set it}. Any other
    setting has the default of the dataclass, or was set by the code that made `config`."""


def resolve(cls: type[Settings], words: Sequence[str] = (), **keywords: Any) -> Resolved[Settings]:
    """The settings of the command `cls` from the words of a command line, or from keywords named like its flags.

    A keyword that is None counts as not given. Raises ConfigError for an unknown name, a wrong type, or a file that
    cannot be read.
    """
    flags = flag_layer(cls, read_words(cls, words) if words else read_keywords(cls, keywords))
    from_user = [flags]
    if file := flags.values.get("config"):
        content = read_yaml(file)
        can_be_read = isinstance(content, dict) and isinstance(content.get("env", ""), str)
        if can_be_read and isinstance(content.get("env_args", {}), dict):
            for name in content.keys() & {*SHORT}:  # e.g. `verifier`, as flags have it
                add_argument_of_rows(content, name, content.pop(name))
        refuse_misplaced(cls, file, content, flags.values)
        from_user = [read_layer(cls, Layer(file, content)), flags]
    if not issubclass(cls, TaskSettings):
        return merge_layers(cls, from_user)
    from_user = [with_short_forms_expanded(layer) for layer in from_user]
    # The user's settings that decide which layers lie below.
    given = {
        name: value
        for layer in from_user
        for name, value in layer.values.items()
        if name in DECIDING or name.startswith("env_args.")
    }
    below = layers_below(cls, given)
    rank = last_value([*below, *from_user], "model.lora_r", default=0)
    dropped = overruled({**given, "model.lora_r": rank}, below)
    return merge_layers(cls, [*(layer.without(dropped) for layer in below), *from_user])


def overruled(given: Mapping[str, Any], below: Iterable[Layer]) -> set[str]:
    """The dotted names of the settings that the user's settings, and a rank of 0, remove from the layers below.

    E.g. --reward removes the `verifier=gsm8k` with which a model was made, since only one of them judges a task, and
    the columns of that verifier, `answer=solution`, since a function may have a parameter `answer` of its own. A rank
    of 0 removes what a recipe has for adapters.
    """
    names: set[str] = set(FOR_ADAPTERS) if given.get("model.lora_r") == 0 else set()
    for setting in given:
        group, _, argument = setting.rpartition(".")
        if argument in JUDGES:  # then the group is `env_args`; among several tasks, `env_args.TASK`
            names |= {f"{group}.{judge}" for judge in JUDGES}
            verifier, reward = (last_value(below, f"{group}.{judge}", "") for judge in JUDGES)
            if f"{group}.verifier" not in given and not reward and verifier in packages.verifiers.tasks():
                task = packages.verifiers.registry.find(verifier)
                columns = {*task.fields, *task.optional} - {"prompt"}  # which stays the question's column
                names |= {f"{group}.{column}" for column in columns}
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
    env = {"env": one_name_each(tasks)} if tasks else {}
    # The layer's own values override what the short forms stand for; only `env` itself is replaced.
    return Layer(layer.origin, {**arguments, **source, **layer.values, **env})


def one_name_each(tasks: Iterable[Task]) -> str:
    """The names of tasks as one text, without arguments, each as `Task.with_one_name` returns it."""
    return join_names(task.with_one_name() for task in tasks)


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
    if not isinstance(cls, type):
        raise ConfigError(f"defaults({cls!r:.60}, ...): begin with a class, as in defaults(Config, env=...).")
    for name in more.keys() & {"on_step", "quiet"}:
        raise ConfigError(f"{name} is no setting, but an argument of train: train(config, {name}=...).")
    if issubclass(cls, Sampling):
        return sampling_of(cls, env, model, algorithm, more)
    if not issubclass(cls, TaskSettings):
        raise ConfigError(
            f"defaults({cls.__name__}, ...): there are defaults of Config, EvalCommand, Sampling and EvalSampling. "
            f"If Config has a {cls.__name__}, take it from defaults(Config, ...)."
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
    known, known_to_config = settings_of(cls), settings_of(Config)
    for name, value in more.items():
        # `RATE` (tokens_per_step) is no setting of its own: it stands for a number of diffusion_steps.
        if name not in known and name != RATE:
            raise ConfigError(
                f"{cls.__name__} has no setting {name} (={value!r:.80}). {did_you_mean(name, known)}"
                f"`help({cls.__name__})` lists them."
            )
    # `Config` knows most settings of `more`. The others are in `cls` alone.
    for_config = {name: value for name, value in more.items() if name == RATE or name in known_to_config}
    if issubclass(cls, EvalDecoding):  # an evaluation is greedy unless `more` has a temperature
        for_config = {"temperature": 0.0, **for_config}
    rollout = defaults(Config, env, model, algorithm, **for_config).rollout
    others = {name: value for name, value in more.items() if name not in for_config}
    return cls(**{f.name: getattr(rollout, f.name) for f in fields(Sampling)}, **others)


def flag_layer(cls: type, flags: Mapping[str, Any]) -> Layer:
    """The layer of flags or keywords: {dotted name: value of the setting's type}.

    flags: {name of a setting: the words behind its flag, or the value of its keyword}.
    """
    known = settings_of(cls)
    values: dict[str, Any] = {}
    for name, value in flags.items():
        if value is None:
            continue
        if name not in known:
            if is_dataclass(group := hints(cls).get(name)):
                nearest = (
                    f"{name} is a group: give each of its settings as a keyword of its own, e.g. "
                    f"{fields(group)[0].name}=... "
                )
            else:
                nearest = place_of(name, value, flags, known) or did_you_mean(name, [*known, *flags_of(cls)])
            raise ConfigError(
                f"{cls.__name__} has no setting {name} (={value!r:.80}). {nearest}`help({cls.__name__})` lists them."
            )
        dotted_name, hint = known[name]
        values |= read_leaf(dotted_name, value, hint, f"{as_flag(name)} ")
    return Layer(FLAG, values)


def refuse_misplaced(cls: type, file: str, content: object, flags: Mapping[str, Any]) -> None:
    """Raises ConfigError for a name at the top of a file of settings that is an argument of an algorithm or a task.

    The error says where the name belongs. flags: the settings that flags or keywords give, among them the name of the
    file, `config`.
    """
    if not isinstance(content, Mapping):
        return
    known = settings_of(cls)
    for name, value in content.items():
        if name in known or name in hints(cls) or not isinstance(name, str):
            continue
        if place := place_of(name, value, flags, known):
            raise ConfigError(f"{file}: {name}={value!r:.80}: no such setting. {place}".rstrip())


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

    These layers come from the run that is resumed, or else from recipes and the model. cls: a command on a task. given:
    the user's settings among `DECIDING`, and arguments of tasks.
    """
    if settings_file := find_resumed(cls, given):
        return layers_of_run(cls, settings_file, given)
    learns_demonstrations = given.get("source") == "demonstrations"
    # Demonstrations teach fresh weights ("new") unless the user names a model.
    name = given.get("model.model", "new" if learns_demonstrations else LoadConfig.model)
    record = model_environment(name)
    model = KnownModel(name, record, recipe_kind(name, record))
    task_layers: list[Layer] = []
    if made_for := record.get("env"):
        task_layers = [Layer(model.origin, {"env": one_name_each(parse_tasks(made_for))})]
    default = "" if given.get("data") else TaskSettings.env  # the texts of a file need no task
    env = given.get("env", last_value(task_layers, "env", default))
    if not env:  # this layer overrides the dataclass's default task
        task_layers = [Layer("--data", {"env": ""})]
    chat = {"chat_template_args": record.get("chat_template_args", {})}
    chat_layer = read_layer(cls, Layer(model.origin, {"model": chat}))
    if cls is Config and not learns_demonstrations:
        return [*task_layers, *training_layers(env, model, given.get("algorithm")), chat_layer]
    # `eval` and demonstrations take settings from those that a training by RL on the task would have by default.
    rl_defaults = merge_layers(Config, training_layers(env, model))
    if cls is EvalCommand:
        return [*task_layers, *eval_layers(env, model, rl_defaults), chat_layer]
    return [*task_layers, *demonstration_layers(env, model, rl_defaults.config), chat_layer]


def layers_of_run(cls: type, settings_file: Path, given: Mapping[str, Any]) -> list[Layer]:
    """The settings of a resumed run, without its output folder. For code that is gone, they name the run's own copy.

    Raises ConfigError for data that is gone, unless the user names its new place. Raises it as well if the user names
    another of our algorithms than the run's, or if the run's algorithm no longer exists.
    """
    from spg_trainer.algorithms.registry import is_known, replacement
    from spg_trainer.runs.inputs import refuse_gone, with_copies

    run = settings_file.parent
    recorded = read_layer(cls, Layer(str(settings_file), with_copies(run, read_yaml(settings_file))))
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


def training_layers(env: str, model: KnownModel, algorithm: str | None = None) -> list[Layer]:
    """The layers of recipes, and over them the layer of the model's environment.json.

    algorithm: the user's; None = the algorithm of the task's recipe.
    """
    from spg_trainer.algorithms.registry import name_in_recipes

    tasks = parse_tasks(env)
    recipes = recipe_of_all(tasks, model.kind)
    if model.kind != "tiny" and (of_family := family_layer(model.name)):
        recipes.append(of_family)
    algorithm = algorithm or last_value(recipes, "algorithm", Config.algorithm)
    recipes += algorithm_recipe(name_in_recipes(algorithm), tasks, model.kind)
    if canvases_of(model.name):
        recipes += algorithm_recipe(name_in_recipes(algorithm), tasks, REDRAWS)
    recorded = settings_made_with(env, model) or recorded_decoding(recipes, model)
    from_recipes = [read_layer(Config, layer) for layer in recipes_for_model(model, recipes)]
    from_model = read_layer(Config, Layer(model.origin, recorded))
    of_canvases = canvas_layer(model.name, [*from_recipes, from_model])
    return [*from_recipes, from_model, *token_by_token_layer(from_recipes, from_model), *of_canvases]


def token_by_token_layer(from_recipes: Sequence[Layer], from_model: Layer) -> list[Layer]:
    """A layer, to lie over the model's, that sets blocks of one token and a step for each; [] if no recipe has these.

    `justgrpo` needs such blocks even with a model whose environment.json has blocks of 32.
    """
    if last_value(from_recipes, "rollout.block_length", None) != 1:
        return []
    length = last_value(
        [*from_recipes, from_model],
        "rollout.max_completion_length",
        default=Sampling.max_completion_length,
    )
    return [Layer(from_recipes[-1].origin, {"rollout.block_length": 1, "rollout.diffusion_steps": length})]


def canvas_layer(model: str, below: Sequence[Layer]) -> list[Layer]:
    """A layer, to lie over all of `below`, by which a model writes canvases; [] for a model that writes none.

    The completion is as long as it would be, rounded up to whole canvases, as the model's own `generate` rounds it. A
    length of 0 stays 0.
    """
    canvases = canvases_of(model)
    if canvases is None:
        return []
    length = last_value(below, "rollout.max_completion_length", default=Sampling.max_completion_length)
    count = -(-length // canvases.length)
    values = {
        "unmasking": "entropy_bound",
        "block_length": canvases.length,
        "max_completion_length": count * canvases.length,
        "diffusion_steps": steps_at_rate(canvases.length / canvases.steps),
        "remasking": Sampling.remasking,
    }
    return [Layer(f"{model}: canvases", {f"rollout.{name}": value for name, value in values.items()})]


def eval_layers(env: str, model: KnownModel, rl_defaults: Resolved[Config]) -> list[Layer]:
    """The layers from which `eval` takes the arguments of its task, the decoding and the number type.

    Arguments and decoding are those of `rl_defaults`, the settings of a training by RL on the task. Their origin is
    this training; but decoding that the training would itself take from the model's environment.json keeps that file as
    its origin. The number type is the one that environment.json records.
    """
    config = rl_defaults.config
    names = ("max_completion_length", "block_length", *(f.name for f in fields(Decoding)))
    rollout = {name: getattr(config.rollout, name) for name in names}
    rollout["diffusion_steps"] = steps_at_rate(config.rollout.tokens_per_step)
    names_from_record = {
        name for name in rollout if rl_defaults.origins.get(f"rollout.{name}") == model.origin
    }
    dtype = model.record.get("dtype", "auto")
    values: dict[str, Any] = {"env_args": config.env_args, "rollout": rollout, "model": {"dtype": dtype}}
    # The second layer repeats some values of the first one, to give them the model's file as their origin.
    from_record: dict[str, Any] = {"rollout": {name: rollout[name] for name in names_from_record}}
    layers = Layer(f"{TRAINING} {env}", values), Layer(model.origin, from_record)
    return [read_layer(EvalCommand, layer) for layer in layers]


def demonstration_layers(env: str, model: KnownModel, rl_defaults: Config) -> list[Layer]:
    """The layers of a training on demonstrations: settings of `rl_defaults` (those of a training by RL on the task),
    the recipe `sft`, and the length that the model was taught.
    """
    rollout = rl_defaults.rollout
    decoding = {
        "temperature": rollout.temperature,
        "block_length": 0,  # it is chosen to fit the length and the model (`fitting_block`)
        # A small model decodes fast enough for one token a step, even if its recipe trains with more.
        "diffusion_steps": steps_at_rate(1.0 if model.kind == "tiny" else rollout.tokens_per_step),
        "remasking": rollout.remasking,
    }
    from_training = {"env_args": rl_defaults.env_args, "rollout": decoding}
    recipes = recipes_for_model(model, recipe_of_all(parse_tasks(env), f"{model.kind} sft"))
    recorded = settings_made_with(env, model).get("rollout", {})
    length = {name: value for name, value in recorded.items() if name == "max_completion_length"}
    layers = (
        Layer(f"{TRAINING} {env or 'any task'}", from_training),
        *recipes,
        Layer(model.origin, {"rollout": length}),
    )
    if canvases_of(model.name):
        algorithm = last_value([*layers], "algorithm", Config.algorithm)
        layers += tuple(algorithm_recipe(algorithm, parse_tasks(env), REDRAWS))
    model_layer = Layer("--source demonstrations", {"model.model": model.name})
    read = [read_layer(Config, layer) for layer in layers]
    return [model_layer, *read, *canvas_layer(model.name, read)]


def recipes_for_model(model: KnownModel, recipes: list[Layer]) -> list[Layer]:
    """The recipes as they are; for an adapter without their group `model`, because its rank and scale are fixed."""
    return [layer.without(["model"]) for layer in recipes] if find_adapter(model.name) else recipes


def settings_made_with(env: str, model: KnownModel) -> dict[str, Any]:
    """The arguments and the decoding that a model was made with, if it was made for the tasks of `env`; else {}.

    A model that learned from texts was made for no task, so its decoding is taken for any `env`. If the model was made
    for several tasks, and `env` is one of them, only this task's arguments are taken, and no arguments if several of
    the tasks have its name.
    """
    record = model.record
    env_args = record.get("env_args") or {}
    tasks = parse_tasks(env)
    # A record without `env` is of a model that learned from texts: it counts as made for this `env`.
    made_for = parse_tasks(str(record.get("env", env)))
    if len(made_for) > 1 and len(tasks) == 1:
        same_name = [task for task in made_for if task.short == tasks[0].short]
        # If several tasks have this name, nothing tells which of them `env` is.
        env_args = with_arguments(same_name[0], env_args).args if len(same_name) == 1 else {}
        made_for = tuple(same_name[:1])
    has_same_tasks = [task.short for task in made_for] == [task.short for task in tasks]
    if not has_same_tasks and not is_copy(env, record.get("origin") or {}):
        return {}
    return {"env_args": env_args, "rollout": record.get("rollout") or {}}


def is_copy(env: str, origin: Mapping[str, str]) -> bool:
    """Whether `env` is a file with the same content as the one file of rows that a model was made with.

    origin: {name: state} of the data that the model was made with; the state of a file is "sha256 HASH".
    """
    from spg_trainer.runs.inputs import DATA, hash_of

    hashes = [text for name, text in origin.items() if name.endswith(DATA)]
    return len(hashes) == 1 and os.path.isfile(env) and hashes == [f"sha256 {hash_of(env)}"]


def recorded_decoding(recipes: Iterable[Layer], model: KnownModel) -> dict[str, Any]:
    """The decoding that a model was taught on another task, without the settings that one of `recipes` sets.

    recipes: those of the task and of the algorithm. Only a recipe for this very task (`Layer.of_task`) counts as
    setting lengths: the lengths that a recipe has for every task are a worse guess than those of the model.
    """
    set_names: set[str] = set()
    for layer in recipes:
        names = set(layer.values.get("rollout", {}))
        lengths = names & {*LENGTHS}
        set_names |= names - lengths
        if layer.of_task and lengths:
            set_names |= {*LENGTHS}  # all three, since they must come from one source
    recorded = model.record.get("rollout") or {}
    return {"rollout": {name: value for name, value in recorded.items() if name not in set_names}}


def find_resumed(cls: type, given: Mapping[str, Any]) -> Path | None:
    """The config.yaml of the run that --resume continues; None if no run is resumed.

    The result is also None for `--resume auto` without --output-dir. For this case, `runs.folder.choose_folder` later
    looks for the newest run with the same settings, once these are known. The checkpoint is chosen there, too.
    """
    if cls is EvalCommand:
        return None
    resume = given.get("output.resume")
    if resume == "auto":
        resume = given.get("output.output_dir")
    if resume is None:
        return None
    # --resume names a run folder, or a checkpoint up to three folders below one.
    place = Path(resume).resolve()
    three_above = list(place.parents)[:3]
    files = (folder / CONFIG for folder in (place, *three_above))
    return next((file for file in files if file.is_file()), None)
