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
from spg_trainer.settings.recipes import (
    Layer,
    algorithm_recipe,
    recipe_of_all,
)
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
"""The arguments of a file of rows that say what a completion is worth."""


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
    flags = flag_layer(cls, read_words(cls, words) if words else keywords)
    asked = [flags]
    if file := flags.values.get("config"):
        asked.insert(0, read_layer(cls, Layer(file, read_settings(file, cls))))
    if not issubclass(cls, TaskSettings):
        return merge_layers(cls, asked)
    asked = [with_tasks(layer) for layer in asked]
    below = [without_other_judges(layer, asked) for layer in layers_below(cls, asked)]
    return merge_layers(cls, [*(without_drawn_positions(layer, asked) for layer in below), *asked])


def without_other_judges(layer: Layer, asked: Iterable[Layer]) -> Layer:
    """A layer without what judges a file of rows, a verifier or functions, where the user says what shall judge it."""
    names = [name.rpartition(".") for above in asked for name in above.values]
    said_of = {task for task, _, name in names if name in JUDGES and task.startswith("env_args")}
    dropped = {f"{task}.{name}" for task in said_of for name in JUDGES}
    return Layer(layer.origin, {name: value for name, value in layer.values.items() if name not in dropped})


def without_drawn_positions(layer: Layer, asked: Sequence[Layer]) -> Layer:
    """A layer without the temperature at which positions are drawn, where the user says that they are not drawn."""
    if said(asked, "rollout.remasking", "plackett_luce") == "plackett_luce":
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
    """A layer of nested values with these by dotted name, each of its type."""
    return Layer(layer.origin, read_nested(cls, layer.values, lambda name: f"{layer.origin}: {name}"))


def merge_layers(cls: type[Settings], layers: Iterable[Layer]) -> Resolved[Settings]:
    """The one merge: a later layer's value stands over an earlier one's."""
    values, origins = dict[str, Any](), dict[str, str]()
    for layer in layers:
        values |= layer.values
        origins |= dict.fromkeys(layer.values, layer.origin)
    return Resolved(replace_nested(cls(), values), origins)


def said(layers: Iterable[Layer], name: str, otherwise: Any) -> Any:
    """What the last of some layers says of a setting."""
    return next((layer.values[name] for layer in reversed([*layers]) if name in layer.values), otherwise)


def layers_below(cls: type, asked: Sequence[Layer]) -> list[Layer]:
    """What lies between the dataclass and what was asked for, by file and flags, of a command on a task."""
    if run := resumed(cls, asked):
        moved = Layer("default", {"output.output_dir": None})  # the folder may have moved
        own = own_code.with_copies(run.parent, read_settings(run, cls))
        if said(asked, "model.model", None) is None:
            refuse_two_models(run.parent, own, record_of(run.parent))
        own = found_again(own, record_of(run.parent))
        if cls is SftCommand and "diffusion_steps" not in own.get("rollout", {}):
            raise ConfigError(
                f"{run} is of an older version, in which sft decoded by other settings, and cannot be resumed. Train "
                f"its weights further with --model {run.parent} --output-dir NEW, or resume it with that version."
            )
        return [read_layer(cls, Layer(str(run), own)), moved]
    model, record = said(asked, "model.model", cls().model.model), list[Layer]()
    if recorded := model_environment(model).get("env"):
        env = own_code.kept(run_holding(model), own_code.ENVIRONMENT, recorded)
        record = [Layer(f"{model}/{ENVIRONMENT}", {"env": one_name_each(parse_tasks(env))})]
    env = said([*record, *asked], "env", "" if said(asked, "data", None) else cls().env)
    record = [Layer("--data", {"env": env}), *record] if not env else record
    if cls is Config:
        return [*record, *for_training(env, model, asked)]
    trained = merge_layers(Config, for_training(env, model)).config
    return [*record, *(for_eval if cls is EvalCommand else for_sft)(env, model, trained)]


def for_training(env: str, model: str, asked: Iterable[Layer] = ()) -> list[Layer]:
    """Recipes and environment.json. asked: where another algorithm than the task's own may be named."""
    kind, tasks = recipe_kind(model), parse_tasks(env)
    recipes = recipe_of_all(tasks, kind)
    if kind != "tiny" and (decoding := decoding_layer(model)):
        recipes.append(decoding)
    algorithm = said([*recipes, *asked], "algorithm", Config().algorithm)
    recipes = for_model(model, [*recipes, *algorithm_recipe(algorithm, tasks, kind)])
    made = Layer(f"{model}/{ENVIRONMENT}", made_for(env, model))
    layers = [read_layer(Config, layer) for layer in (*recipes, made)]
    return [*layers, *one_by_one(layers[:-1], layers[-1])]


def one_by_one(recipes: Sequence[Layer], made: Layer) -> list[Layer]:
    """A recipe with blocks of one token takes a step for each, also of a model that was made with other blocks."""
    if said(recipes, "rollout.block_length", None) != 1:
        return []
    length = said([*recipes, made], "rollout.max_completion_length", Config().rollout.max_completion_length)
    return [Layer(recipes[-1].origin, {"rollout.block_length": 1, "rollout.diffusion_steps": length})]


def for_eval(env: str, model: str, trained: Config) -> list[Layer]:
    """What a training on the task samples, in the type that the model was trained in."""
    names = ("max_completion_length", "block_length", *(f.name for f in fields(Decoding)))
    rollout = {name: getattr(trained.rollout, name) for name in names}
    rollout["diffusion_steps"] = at_rate(trained.rollout.tokens_per_step)
    dtype = model_environment(model).get("dtype", "auto")
    values = {"env_args": trained.env_args, "rollout": rollout, "model": {"dtype": dtype}}
    return [read_layer(EvalCommand, Layer(f"{TRAINING} {env}", values))]


def for_sft(env: str, model: str, trained: Config) -> list[Layer]:
    """Its own recipe, a training's arguments and decoding, and the length that the model was made with."""
    kind, r = recipe_kind(model), trained.rollout
    decoding = {
        "temperature": r.temperature,  # at which habits are counted
        "block_length": r.block_length,
        "diffusion_steps": at_rate(1.0 if kind == "tiny" else r.tokens_per_step),
        "remasking": r.remasking,
    }
    shared = {"env_args": trained.env_args, "rollout": decoding}
    made = made_for(env, model).get("rollout", {})
    length = {name: value for name, value in made.items() if name == "max_completion_length"}
    recipes = for_model(model, recipe_of_all(parse_tasks(env), f"{kind} sft"))
    layers = (
        Layer(f"{TRAINING} {env}", shared),
        *recipes,
        Layer(f"{model}/{ENVIRONMENT}", {"rollout": length}),
    )
    return [read_layer(SftCommand, layer) for layer in layers]


def for_model(model: str, recipes: list[Layer]) -> list[Layer]:
    """Recipes without what they say of the model, if that is an adapter, which is trained as it is."""
    left_out = {"model"} if find_adapter(model) else set()
    return [
        Layer(origin, {part: value for part, value in values.items() if part not in left_out})
        for origin, values in recipes
    ]


def made_for(env: str, model: str) -> dict[str, Any]:
    """The arguments and lengths that a model was made with, if it was made for this task, or of texts for none.

    Of a model that was made for several tasks, one of them has its own arguments, if it is there once, and the lengths
    of all.
    """
    recorded = model_environment(model)
    env_args = recorded.get("env_args") or {}
    asked, made = parse_tasks(env), parse_tasks(str(recorded.get("env", env)))
    if len(made) > 1 and len(asked) == 1:
        same = [task for task in made if task.short == asked[0].short]
        env_args = with_arguments(same[0], env_args).args if len(same) == 1 else {}
        made = same[:1]
    if [task.short for task in made] != [task.short for task in asked]:
        return {}
    return {"env_args": env_args, "rollout": recorded.get("rollout") or {}}


def resumed(cls: type, asked: Sequence[Layer]) -> Path | None:
    """The file with the settings of the run (of `sft`, the model) that --resume continues; None if there is none."""
    if cls is EvalCommand:
        return None
    file = CONFIG if cls is Config else SFT
    folder = said(asked, "output.resume", None)
    if folder == "auto":
        folder = said(asked, "output.output_dir", None)
    if folder is None:
        return None
    place = Path(folder).resolve()  # a run folder, one of its checkpoints, or a superseded one
    files = (above / file for above in (place, *list(place.parents)[:3]))
    return next((file for file in files if file.is_file()), None)
