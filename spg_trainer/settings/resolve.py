"""Where the value of each setting comes from: one list of layers, merged once, and every value keeps its layer's name.

Over the dataclass (`fields.py`) lie, in this order: the task's recipe (`recipes/`, which names its algorithm), the
published decoding of the model's family, the algorithm's own recipe (`algorithms/recipes.yaml`), environment.json of a
model that was made for the task, --config FILE, and flags. A run that is resumed has its own config.yaml in place of
all that lies below file and flags.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from spg_trainer.errors import ConfigError, did_you_mean
from spg_trainer.runs import own_code
from spg_trainer.settings import packages
from spg_trainer.settings.adapters import find_adapter
from spg_trainer.settings.decoding import Decoding, at_rate
from spg_trainer.settings.fields import Config, EvalCommand, SftCommand, TaskSettings
from spg_trainer.settings.flags import as_flag, read_words
from spg_trainer.settings.places import found_again, refuse_two_models
from spg_trainer.settings.published import decoding_layer
from spg_trainer.settings.recipes import Layer, algorithm_recipe, recipe_of_all
from spg_trainer.settings.recorded import (
    CONFIG,
    ENVIRONMENT,
    SFT,
    model_environment,
    read_settings,
    recipe_kind,
    record_of,
    run_holding,
)
from spg_trainer.settings.task import (
    Task,
    join_arguments,
    join_names,
    parse_tasks,
    with_arguments,
)
from spg_trainer.settings.values import read_leaf, read_nested, replace_nested, settings_of

Settings = TypeVar("Settings")

FLAG = "flag"
"""The origin of what flags or keywords say."""
TRAINING = "training on"
"""So begins the origin of what `eval` and `sft` take from a training by RL on their task."""
JUDGES = ("verifier", "reward")
"""The arguments of a file of rows that say what a completion is worth; a user who gives one of them means no other."""


@dataclass(frozen=True)
class Resolved(Generic[Settings]):
    """The settings of a command, and which layer has set each of them."""

    config: Settings
    origins: Mapping[str, str] = field(default_factory=dict)
    """Dotted name, e.g. `optimizer.learning_rate` or `env_args.blanks`, -> layer; a name that is not here has the value
    of the dataclass, or its caller's."""


def resolve(cls: type[Settings], words: Sequence[str] = (), **keywords: Any) -> Resolved[Settings]:
    """The settings of a command line (words), or of keywords named as its flags are; None leaves a keyword out.

    Raises ConfigError for an unknown name, a wrong type, or a file that cannot be read.
    """
    from_user = [flag_layer(cls, read_words(cls, words) if words else keywords)]
    if file := from_user[0].values.get("config"):
        from_user.insert(0, read_layer(cls, Layer(file, read_settings(file, cls))))
    if not issubclass(cls, TaskSettings):
        return merge_layers(cls, from_user)
    from_user = [with_tasks(layer) for layer in from_user]
    below = layers_below(cls, from_user)
    below = [without_other_judges(layer, from_user) for layer in below]
    below = [without_drawn_positions(layer, from_user) for layer in below]
    return merge_layers(cls, [*below, *from_user])


def without_other_judges(layer: Layer, from_user: Iterable[Layer]) -> Layer:
    """A layer without verifier and reward functions of each task for which the user names one of these.

    `--reward ./mine.py:brevity` for a model that was made with `verifier=gsm8k` leaves no verifier.
    """
    given = {name for above in from_user for name in above.values if name.startswith("env_args")}
    tasks = {name.rpartition(".")[0] for name in given if name.rpartition(".")[2] in JUDGES}
    dropped = {f"{task}.{judge}" for task in tasks for judge in JUDGES}
    return Layer(layer.origin, {name: value for name, value in layer.values.items() if name not in dropped})


def without_drawn_positions(layer: Layer, from_user: Sequence[Layer]) -> Layer:
    """A layer without the temperature at which positions are drawn, where the user says that they are not drawn."""
    if last_value(from_user, "rollout.remasking", "plackett_luce") == "plackett_luce":
        return layer
    values = {key: value for key, value in layer.values.items() if key != "rollout.position_temperature"}
    return Layer(layer.origin, values)


def with_tasks(layer: Layer) -> Layer:
    """A layer in which each task has its one name; what stands behind it, as in `countdown:level=2`, is an argument."""
    tasks = parse_tasks(layer.values.get("env") or "")
    arguments = {f"env_args.{key}": value for key, value in join_arguments(tasks).items()}
    env = {"env": one_name_each(tasks)} if tasks else {}
    return Layer(layer.origin, {**arguments, **layer.values, **env})


def one_name_each(tasks: Iterable[Task]) -> str:
    """The text of tasks in which each has its one name."""
    return join_names(task.with_one_name() for task in tasks)


def defaults(
    cls: type[Settings],
    env: str | type | None = None,
    model: str | None = None,
    algorithm: str | None = None,
    **more: Any,
) -> Settings:
    """The settings of a command for a task, a model and an algorithm; more: any other of its flags, `config` too.

    env: a name as `--env`, or the class of an environment that has been registered.
    """
    env = packages.envs.registry.name_of(env) if isinstance(env, type) else env
    return resolve(cls, env=env, model=model, algorithm=algorithm, **more).config


def flag_layer(cls: type, given: Mapping[str, Any]) -> Layer:
    """What flags or keywords say, by dotted name, each of its type."""
    known, values = settings_of(cls), dict[str, Any]()
    for name, value in given.items():
        if value is None:
            continue
        if name not in known:
            nearest = did_you_mean(name, known)
            raise ConfigError(
                f"{cls.__name__} has no setting {name} (={value!r}). {nearest}Known: {', '.join(known)}."
            )
        place, hint = known[name]
        values |= read_leaf(place, value, hint, as_flag(name))
    return Layer(FLAG, values)


def read_layer(cls: type, layer: Layer) -> Layer:
    """A layer as a file has it, nested, with its values by dotted name and each of its type."""
    return Layer(layer.origin, read_nested(cls, layer.values, lambda name: f"{layer.origin}: {name}"))


def merge_layers(cls: type[Settings], layers: Iterable[Layer]) -> Resolved[Settings]:
    """The settings of a command under some layers, a later one over an earlier one. Nothing else merges."""
    values, origins = dict[str, Any](), dict[str, str]()
    for layer in layers:
        values |= layer.values
        origins |= dict.fromkeys(layer.values, layer.origin)
    return Resolved(replace_nested(cls(), values), origins)


def last_value(layers: Iterable[Layer], name: str, default: Any) -> Any:
    """The value of a setting in the last of the layers that has it."""
    return next((layer.values[name] for layer in reversed([*layers]) if name in layer.values), default)


def layers_below(cls: type, from_user: Sequence[Layer]) -> list[Layer]:
    """What lies between the dataclass and `from_user`, file and flags: the run that goes on, or recipes and a model's.

    cls: a command on a task.
    """
    if settings_file := find_resumed(cls, from_user):
        return layers_of_run(cls, settings_file, from_user)
    model = last_value(from_user, "model.model", cls().model.model)
    from_model = list[Layer]()
    if made_for := model_environment(model).get("env"):
        # A task from the author's file, as the run had it: by the run's copy where the file has changed or is gone.
        made_for = own_code.kept(run_holding(model), own_code.ENVIRONMENT, made_for)
        from_model = [Layer(f"{model}/{ENVIRONMENT}", {"env": one_name_each(parse_tasks(made_for))})]
    learns_texts = bool(last_value(from_user, "data", None))
    env = last_value([*from_model, *from_user], "env", "" if learns_texts else cls().env)
    if not env:  # texts need no task; without this layer that of the dataclass would stand
        from_model = [Layer("--data", {"env": ""})]
    if cls is Config:
        return [*from_model, *for_training(env, model, from_user)]
    # `eval` and `sft` take over what a training has by default; their own flags name no algorithm.
    trained = merge_layers(Config, for_training(env, model)).config
    return [*from_model, *(for_eval if cls is EvalCommand else for_sft)(env, model, trained)]


def layers_of_run(cls: type, settings_file: Path, from_user: Sequence[Layer]) -> list[Layer]:
    """The settings of the run that goes on, its paths as they are found from here, but not the place of its folder.

    Raises ConfigError where its model is another one here, or a model of `sft` is too old.
    """
    run = settings_file.parent
    settings = own_code.with_copies(run, read_settings(settings_file, cls))
    if last_value(from_user, "model.model", None) is None:
        refuse_two_models(run, settings, record_of(run))
    settings = found_again(settings, record_of(run))
    if cls is SftCommand and "diffusion_steps" not in settings.get("rollout", {}):
        raise ConfigError(
            f"{settings_file} is of an older version, in which sft decoded by other settings, and cannot be resumed. "
            f"Train its weights further with --model {run} --output-dir NEW, or resume it with that version."
        )
    may_have_moved = Layer("default", {"output.output_dir": None})
    return [read_layer(cls, Layer(str(settings_file), settings)), may_have_moved]


def for_training(env: str, model: str, from_user: Iterable[Layer] = ()) -> list[Layer]:
    """Recipes, and environment.json of the model over them. from_user: may name another algorithm than the recipe."""
    kind, tasks = recipe_kind(model), parse_tasks(env)
    recipes = recipe_of_all(tasks, kind)
    if kind != "tiny" and (decoding := decoding_layer(model)):
        recipes.append(decoding)
    algorithm = last_value([*recipes, *from_user], "algorithm", Config().algorithm)
    recipes = for_model(model, [*recipes, *algorithm_recipe(algorithm, tasks, kind)])
    from_recipes = [read_layer(Config, layer) for layer in recipes]
    from_model = read_layer(Config, Layer(f"{model}/{ENVIRONMENT}", recorded_settings(env, model)))
    return [*from_recipes, from_model, *one_by_one(from_recipes, from_model)]


def one_by_one(from_recipes: Sequence[Layer], from_model: Layer) -> list[Layer]:
    """The blocks of a recipe that decodes token by token, over those of the model: one token and one step each.

    `justgrpo` needs them, also with a model whose environment.json has blocks of 32. Other recipes have no such layer.
    """
    if last_value(from_recipes, "rollout.block_length", None) != 1:
        return []
    name = "rollout.max_completion_length"
    length = last_value([*from_recipes, from_model], name, Config().rollout.max_completion_length)
    return [Layer(from_recipes[-1].origin, {"rollout.block_length": 1, "rollout.diffusion_steps": length})]


def for_eval(env: str, model: str, trained: Config) -> list[Layer]:
    """What `eval` takes from a training on its task: arguments and decoding, and the number type of the model."""
    names = ("max_completion_length", "block_length", *(f.name for f in fields(Decoding)))
    rollout = {name: getattr(trained.rollout, name) for name in names}
    rollout["diffusion_steps"] = at_rate(trained.rollout.tokens_per_step)
    dtype = model_environment(model).get("dtype", "auto")
    values = {"env_args": trained.env_args, "rollout": rollout, "model": {"dtype": dtype}}
    return [read_layer(EvalCommand, Layer(f"{TRAINING} {env}", values))]


def for_sft(env: str, model: str, trained: Config) -> list[Layer]:
    """What `sft` begins with: a training's arguments and decoding, its own recipe, and the length of its model."""
    kind, r = recipe_kind(model), trained.rollout
    decoding = {
        "temperature": r.temperature,  # at which habits are counted
        "block_length": r.block_length,
        # A small model affords a token a step also where its recipe trains with more.
        "diffusion_steps": at_rate(1.0 if kind == "tiny" else r.tokens_per_step),
        "remasking": r.remasking,
    }
    shared = {"env_args": trained.env_args, "rollout": decoding}
    recorded = recorded_settings(env, model).get("rollout", {})
    length = {name: value for name, value in recorded.items() if name == "max_completion_length"}
    recipes = for_model(model, recipe_of_all(parse_tasks(env), f"{kind} sft"))
    layers = (
        Layer(f"{TRAINING} {env}", shared),
        *recipes,
        Layer(f"{model}/{ENVIRONMENT}", {"rollout": length}),
    )
    return [read_layer(SftCommand, layer) for layer in layers]


def for_model(model: str, recipes: list[Layer]) -> list[Layer]:
    """Recipes for a model; if it is an adapter, without their `model` group, because its rank and scale are fixed."""
    left_out = {"model"} if find_adapter(model) else set()
    return [
        Layer(origin, {part: value for part, value in values.items() if part not in left_out})
        for origin, values in recipes
    ]


def recorded_settings(env: str, model: str) -> dict[str, Any]:
    """The arguments and lengths that a model was made with, if it was made for just the tasks of `env`; else nothing.

    A model of texts was made for no task, so its lengths hold where `env` names none. Where `env` is one of several
    tasks that the model was made for, the lengths are those of all, and the arguments are that task's own, or none if
    several of them have its name.
    """
    record = model_environment(model)
    env_args = record.get("env_args") or {}
    tasks, made_for = parse_tasks(env), parse_tasks(str(record.get("env", env)))
    if len(made_for) > 1 and len(tasks) == 1:
        same = [task for task in made_for if task.short == tasks[0].short]
        env_args = with_arguments(same[0], env_args).args if len(same) == 1 else {}
        made_for = same[:1]
    if [task.short for task in made_for] != [task.short for task in tasks]:
        return {}
    return {"env_args": env_args, "rollout": record.get("rollout") or {}}


def find_resumed(cls: type, from_user: Sequence[Layer]) -> Path | None:
    """The file of settings of the run (of `sft`, the model) that --resume continues; None if no run goes on.

    The folder is chosen, and its checkpoint, by `runs.folder.choose_folder` once the settings are known.
    """
    if cls is EvalCommand:
        return None
    name = CONFIG if cls is Config else SFT
    resume = last_value(from_user, "output.resume", None)
    if resume == "auto":
        resume = last_value(from_user, "output.output_dir", None)
    if resume is None:
        return None
    place = Path(resume).resolve()  # a run folder, one of its checkpoints, or a superseded one
    files = (folder / name for folder in (place, *list(place.parents)[:3]))
    return next((file for file in files if file.is_file()), None)
