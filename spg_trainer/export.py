"""The commands `merge` (an adapter into its base), `convert` (a language model into a diffusion model) and `push` (a
model with its card to the Hugging Face Hub).

The arithmetic of merging is in models/lora.py.
"""

import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spg_trainer import __version__
from spg_trainer.errors import ConfigError
from spg_trainer.reporting.curves import UNTITLED, draw_figure
from spg_trainer.reporting.runs import Recorded, read_run
from spg_trainer.runs.checkpoint import how_to_open, write_model
from spg_trainer.runs.files import COMPLETE, damaged, incomplete, write_folder, write_text
from spg_trainer.runs.folder import SUMMARY
from spg_trainer.runs.resume import refuse_changed_base
from spg_trainer.settings.configs import Config, ConvertCommand, MergeCommand, PushCommand
from spg_trainer.settings.packages import envs
from spg_trainer.settings.recorded import (
    ENVIRONMENT,
    model_environment,
    run_holding,
    shown_settings,
    to_yaml,
    write_record,
)
from spg_trainer.settings.types import without_folders
from spg_trainer.settings.weights import is_embedded, known_settings, looks_local, resolve_model

MERGED, CARD, CURVE = "merged", "README.md", "curve.png"
PLACES = frozenset("output config dry_run gpu processes link".split())
"""Settings that say where a model was made, not how."""


def merge(command: MergeCommand) -> None:
    """Merges an adapter into its base, in float32 and a layer at a time, and writes the whole model.

    Raises ConfigError for a source without an adapter, for a base that has changed since the adapter was trained, and
    for a folder that is taken, or that is itself the adapter or its base.
    """
    if not command.source:
        raise ConfigError("Nothing to merge. Give a run or the folder of an adapter, e.g. runs/NAME.")
    if not (is_embedded(command.source, "tiny") or Path(command.source).expanduser().exists()):
        raise ConfigError(
            f"{command.source}: there is no such folder (looked in {Path.cwd()}). Give a run or the folder of an "
            "adapter, e.g. runs/NAME."
        )
    source = resolve_model(command.source)
    if source.adapter is None:
        raise ConfigError(f"{command.source} holds no adapter to merge. Give a run made with --lora-r.")
    refuse_changed_base(command.source, run_holding(command.source))
    target = Path(command.output or source.adapter.resolve().parent / MERGED)
    merged_folders = [source.adapter.resolve(), *([Path(source.base).resolve()] if source.is_local else [])]
    if target.resolve() in merged_folders:
        raise ConfigError(
            f"{target} is what is merged: the adapter, or its base. Choose a folder that is new or empty with --output."
        )
    if target.exists() and (target.is_file() or any(target.iterdir())):
        holds_model = incomplete(target) is None
        if not (holds_model and command.force):
            remedy = "Replace it with --force, or choose" if holds_model else "Choose"
            raise ConfigError(f"{target} is taken. {remedy} a folder that is new or empty with --output.")
    recorded = model_environment(str(source.adapter))
    dtype = recorded.get("dtype", "float32") if command.dtype == "auto" else command.dtype

    from spg_trainer.models.load import merged

    policy, weights = merged(str(source.adapter), dtype)
    record = {**recorded, "dtype": dtype}
    write_folder(target, lambda aside: write_model(aside, policy, record, weights))
    sys.stdout.write(f"{target}\n")


def convert(command: ConvertCommand) -> None:
    """Writes a folder with a model of a family, made from a language model, for `sft` to train.

    Raises ConfigError for a folder that is taken, and as `models.convert.convert`.
    """
    if not command.source:
        raise ConfigError("Nothing to convert. Give the folder or the Hub id of a language model.")
    target = Path(command.output or f"{Path(command.source).name}-{command.family}")
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise ConfigError(f"{target} is taken. Choose a folder that is new or empty with --output.")

    from spg_trainer.models.convert import convert as convert_model
    from spg_trainer.models.load import no_progress_bars

    model, tokenizer = convert_model(command.source, command.family, command.block_length)

    def write(aside: Path) -> None:
        with no_progress_bars():
            model.save_pretrained(str(aside))
        tokenizer.save_pretrained(str(aside))

    write_folder(target, write)
    sys.stdout.write(f"{target}\n")


def push(command: PushCommand) -> None:
    """Uploads a finished run's model with its card in one commit; with --dry-run writes the card and lists the files.

    Raises ConfigError for an unfinished run, for an adapter whose base is not on the Hub, and if the Hub refuses.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if not (command.run and command.repo):
        raise ConfigError("Give a finished run, and with --repo NAME/ID where to.")
    try:
        validate_repo_id(command.repo)
    except HFValidationError as error:
        raise ConfigError(f"--repo {command.repo}: {str(error).rstrip('.')}. Give NAME/ID.") from error
    run = read_run(command.run)
    folder = run.path / (MERGED if command.merged else "model")
    if run.summary is None:
        raise ConfigError(f"{run.path} is not finished: it has no {SUMMARY}. Use --resume {run.path} first.")
    if problem := damaged(folder):
        raise ConfigError(
            f"{folder} {problem}. For --merged: python -m spg_trainer merge {shlex.quote(str(run.path))}"
        )
    source = resolve_model(str(folder))
    base = source.base if source.adapter else run.config.model.model
    base_is_on_hub = not is_embedded(base, "tiny") and not Path(base).is_dir() and not looks_local(base)
    if source.adapter and not base_is_on_hub:
        merge_command = f"python -m spg_trainer merge {run.path}, then this command with --merged"
        raise ConfigError(
            f"{folder} is an adapter on {base}, which only you have. Push it whole: {merge_command}."
        )
    family = known_settings(str(folder)).get("model_type", "llada")  # an adapter's folder may not say it
    card = card_of_run(
        run, command.repo, base if base_is_on_hub else None, family, adapter=bool(source.adapter)
    )
    with tempfile.TemporaryDirectory() as temporary:
        to_upload = run.path / "card" if command.dry_run else Path(temporary)
        write_text(to_upload / CARD, card)
        no_label = ""
        draw_figure({UNTITLED: {no_label: [run]}}).savefig(to_upload / CURVE, dpi=150)
        environment = without_folders(model_environment(str(folder)))
        write_record(to_upload, environment)
        model_files = [path for path in folder.iterdir() if path.name not in (COMPLETE, CARD, ENVIRONMENT)]
        if command.dry_run:
            new_files = [to_upload / name for name in (CARD, CURVE, ENVIRONMENT)]
            sys.stdout.write(files_and_sizes(command.repo, [*new_files, *model_files]))
            return
        for path in model_files:
            (to_upload / path.name).symlink_to(path.resolve())
        sys.stdout.write(f"{upload(command, to_upload)}\n")


def files_and_sizes(repo: str, files: Sequence[Path]) -> str:
    """A text on what an upload would send: for each file its bytes and its place, then the sum."""
    sizes = {path: path.stat().st_size for path in sorted(files, key=lambda path: path.name)}
    lines = [f"{size:>15,}  {path.name}  ({path})" for path, size in sizes.items()]
    return "\n".join([*lines, f"{sum(sizes.values()):>15,}  bytes would be sent to {repo}"]) + "\n"


def upload(command: PushCommand, folder: Path) -> str:
    """Uploads a folder in one commit; returns the repository's address. Raises ConfigError with the Hub's answer."""
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError, HTTPError

    if get_token() is None:
        raise ConfigError("The Hub needs a token with the right to write: `hf auth login`, or HF_TOKEN=...")
    if why := envs.files.hub.why_offline():
        raise ConfigError(f"The Hub does not answer: {why}. The card alone, without a network: --dry-run")
    api, repo = HfApi(), command.repo
    # None = public, unless the organisation's default is private.
    private = True if command.private else None
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        if command.private and not api.model_info(repo).private:
            raise ConfigError(f"{repo} is public. Choose another --repo, or make it private on the Hub.")
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Model and card")
    except (HTTPError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        remedy = "Give NAME/ID, and a token that may write there."
        raise ConfigError(f"The Hub refused --repo {repo}: {reason}. {remedy}") from error
    return str(url)


def card_of_run(run: Recorded, repo: str, base: str | None, family: str, *, adapter: bool) -> str:
    """The card of a run's model, in Markdown.

    base: the Hub id of the model that the run started from; None = it has none. family: the `model_type` of both.
    """
    config = run.config
    if base:
        start = f"`{base}`"
    elif is_embedded(config.model.model, "tiny"):
        start = "a small model of the package spg-trainer"
    else:
        start = "a local model"
    kind = "A masked diffusion language model"
    if adapter:
        kind += " (a LoRA adapter)"
    weights = run.chosen.replace("model/ is", "These weights are", 1)
    text = f"""\
{kind}, {how_trained(config)} for {run.summary["steps"]} steps, seed {config.seed}.
It started from {start}. {weights}

![Share solved over the steps of training]({CURVE})
"""
    front = {"library_name": "peft" if adapter else "transformers", "base_model": base}
    measured = {
        f"{name} training": figures
        for name in ("after", "before")
        if (figures := run.summary[f"eval_{name}"])
    }
    usage = how_to_open(repo, without_folders(config.env), base if adapter else None)
    _, _, title = repo.rpartition("/")
    return card_text(title, text, config, measured, usage, family, **front)


def how_trained(config: Config) -> str:
    """A card's words on how the model was trained: by which algorithm, on which data."""
    algorithm = f"`{without_folders(config.algorithm)}`"
    if config.source == "environment":
        return f"trained by reinforcement learning with {algorithm} on {shown_task(config)}"
    if config.source == "pairs":
        return f"trained with {algorithm} on pairs of `{without_folders(config.pairs)}`"
    if config.data:
        return f"trained with {algorithm} on the texts of `{without_folders(config.data)}`"
    mix = " ".join(f"{name}={share:g}" for name, share in (config.mix or {"right": 1}).items())
    return f"trained with {algorithm} on demonstrations of {shown_task(config)} ({mix}; `right` is its own solution)"


def card_text(
    title: str, text: str, settings: Any, measured: dict[str, Any], usage: str, family: str, **front: Any
) -> str:
    """The text of a model card, in Markdown.

    settings: the run's. measured: {name of an evaluation: its figures}, the one of this model first. usage: how to open
    the model. family: its `model_type`. front: further fields of the card's head.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    env, results = without_folders(settings.env), None
    if measured:
        evaluation_of_model = next(iter(measured.values()))
        solved = {"metric_value": evaluation_of_model["correct"], "metric_name": "solved"}
        results = [EvalResult("text-generation", env, env, "accuracy", **solved)]
    tags = ["masked-diffusion", family.lower(), "reinforcement-learning", "spg-trainer"]
    data = ModelCardData(model_name=title, eval_results=results, tags=tags, **front)
    content = f"---\n{data.to_yaml()}\n---\n# {title}\n\n{text}\n{results_table(measured)}"
    content += f"## Settings of spg-trainer {__version__}\n\n"
    shown = {name: value for name, value in shown_settings(settings).items() if name not in PLACES}
    content += f"```yaml\n{to_yaml(without_folders(shown))}```\n"
    return str(ModelCard(f"{content}\n## Open it\n\n{usage}"))


def results_table(measured: dict[str, Any]) -> str:
    """The table of a card's evaluations, a line for each, followed by an empty line; "" without evaluations."""
    if not measured:
        return ""
    lines = [
        "| | solved | 95% interval | problems | split | tokens | steps | block | temperature |",
        "|---" * 9 + " |",
    ]
    names = "split max_completion_length diffusion_steps block_length temperature".split()
    for name, figures in measured.items():
        rate = f"{figures['correct']:.3f} | {figures['low']:.3f} to {figures['high']:.3f} | {figures['n']}"
        settings = " | ".join(str(figures["settings"][key]) for key in names)
        lines.append(f"| {name} | {rate} | {settings} |")
    return "\n".join(lines) + "\n\n"


def shown_task(settings: Any) -> str:
    """The environment and its arguments, without folders."""
    pairs = " ".join(f"{name}={value}" for name, value in without_folders(settings.env_args).items())
    return f"`{without_folders(settings.env)}`" + (f" ({pairs})" if pairs else "")
