"""The `generate` command: answers a prompt, the prompts of a file, or a chat on a terminal."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from spg_trainer.errors import ConfigError, SpgError, in_flags, written
from spg_trainer.models import open_for_evaluation
from spg_trainer.rollout.canvas_view import showing_canvas
from spg_trainer.rollout.player import Player, answer_prompts, was_unmasked
from spg_trainer.rollout.sampler import check_sampling
from spg_trainer.rollout.tokens import Prompt, decode_completions
from spg_trainer.settings.check import check, check_processes
from spg_trainer.settings.configs import EvalCommand, GenerateCommand
from spg_trainer.settings.packages import envs
from spg_trainer.settings.recorded import model_environment
from spg_trainer.settings.resolve import FLAG, Resolved, resolve
from spg_trainer.tensors import Rows

COMMANDS = {"/reset": "forgets the chat so far", "/quit": "ends"}
"""{a line of a chat that is no message: what it does}."""


def run_generate(resolved: Resolved[GenerateCommand]) -> None:
    """Answers what the command asks, and writes the answers to standard output.

    Raises ConfigError for an empty prompt, settings that cannot decode, and a prompt that is too long for the model.
    """
    command = resolved.config
    is_chat = command.prompt is None and command.prompts is None and sys.stdin.isatty()
    numbered = [] if is_chat else list(read_prompts(command))  # before the model is opened
    player = open_player(resolved)
    screen = Console(highlight=False, emoji=False)
    shows_canvas = screen.is_terminal and not screen.is_dumb_terminal and not (command.plain or command.json)
    showing = showing_canvas(player.policy, screen) if shows_canvas else nullcontext()
    if is_chat:
        chat(player, command, screen, showing=shows_canvas)
        return
    with showing:
        rollouts = answer_prompts(
            player, [prompt for _, prompt in numbered], num_return_sequences=command.num_return_sequences
        )
    count = command.num_return_sequences
    origins = [(where, prompt, k) for where, prompt in numbered for k in range(count)]
    for (where, prompt, k), answer in zip(origins, answers_of(player, rollouts), strict=True):
        if command.json:
            sys.stdout.write(json.dumps({"prompt": prompt, **answer}, ensure_ascii=False) + "\n")
            continue
        if len(origins) > 1:
            sys.stdout.write(f"--- {where}, completion {k + 1} of {count}\n")
        sys.stdout.write(envs.text.terminal.printable(answer["completion"]) + "\n")


def read_prompts(command: GenerateCommand) -> Iterator[tuple[str, Prompt]]:
    """(where it stands, the prompt) of each prompt of the command, or of standard input, which is one prompt.

    Raises ConfigError for an empty prompt and for both a prompt and a file, EnvError for a file that cannot be read.
    """
    if command.prompt is not None and command.prompts is not None:
        raise ConfigError("Both a prompt and $prompts are given. Leave out one of them.")
    found: Sequence[tuple[str, Any]] = [("the prompt", command.prompt)]
    if command.prompts is not None:
        rows = envs.files.datasets.read_files("$prompts", [Path(command.prompts)], ("prompt",))
        found = [(where, row["prompt"]) for where, row in rows]
    elif command.prompt is None:
        found = [("standard input", sys.stdin.read().rstrip("\n"))]
    for where, prompt in found:
        if not prompt or (isinstance(prompt, str) and not prompt.strip()):
            raise ConfigError(f"{where} is empty. Write what the model should answer.")
        yield where, prompt


def open_player(resolved: Resolved[GenerateCommand]) -> Player:
    """The model of the command with its decoding: what flags leave open is as in `eval`, so as the model was taught."""
    command = resolved.config
    typed = {name.rpartition(".")[2] for name, origin in resolved.origins.items() if origin == FLAG}
    groups = {**vars(command.model), **vars(command.rollout)}
    given = {name: value for name, value in groups.items() if name in typed}
    for name in given.keys() & {"max_completion_length", "diffusion_steps"}:
        given[name] = (given[name],)  # `eval` takes several
    taught = resolve(EvalCommand, **given).config
    check(taught)
    check_processes(taught.model, num_processes=1)
    (sampling,) = taught.rollout.samplings()
    policy = open_for_evaluation(taught.model, env=taught.env, device=taught.model.device)
    policy = policy.ending_with(model_environment(taught.model.model).get("ends", "any"))
    check_sampling(policy, sampling)
    rows_per_forward = None if policy.device.type == "cpu" else command.rows_per_forward
    return Player(policy, sampling, command.seed, rows_per_forward)


def answers_of(player: Player, rollouts: Rows) -> Iterator[dict[str, Any]]:
    """What --json writes of each completion: its text and, for each token that was written up to the first end token,
    its id, the step in which it was unmasked, and its log-probability then (nats, at temperature 1).
    """
    texts = decode_completions(player.policy, rollouts, player.sampling.stop)
    masks = was_unmasked(rollouts).cpu()
    for i, (text, mask) in enumerate(zip(texts, masks, strict=True)):
        columns = {
            name: rollouts.get(name)[i].cpu()[mask].tolist()
            for name in ("completion_ids", "unmask_step", "unmask_logps")
        }
        yield {"completion": text, **columns}


def chat(player: Player, command: GenerateCommand, screen: Console, *, showing: bool) -> None:
    """Answers line by line; each answer sees the chat before it. Ctrl-C ends an answer that is being written."""
    import readline  # noqa: F401  # lines can be edited, and are remembered

    screen.print("[dim]" + ", ".join(f"{word} {what}" for word, what in COMMANDS.items()) + ".[/]")
    messages: list[dict[str, str]] = []
    number = 0
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            screen.print()
            return
        if line == "/quit":
            return
        if line == "/reset":
            messages = []
        elif line.startswith("/"):
            screen.print(f"No command {line.split()[0]}. Known: {', '.join(COMMANDS)}.", markup=False)
        elif line:
            asked = [*messages, {"role": "user", "content": line}]
            # Without a chat template a model takes one text, and has no chat to remember.
            prompt = asked if player.policy.tokenizer.chat_template is not None else line
            try:
                with showing_canvas(player.policy, screen) if showing else nullcontext():
                    rollouts = answer_prompts(player, [prompt], first_number=number)
            except KeyboardInterrupt:
                screen.print("Stopped; this answer is not part of the chat.")
                continue
            except SpgError as error:
                way_out = " /reset forgets the chat so far." if messages else ""
                screen.print(f"error: {in_flags(written(error))}{way_out}", markup=False)
                continue
            number += 1
            (answer,) = decode_completions(player.policy, rollouts, player.sampling.stop)
            messages = [*asked, {"role": "assistant", "content": answer}]
            screen.print(envs.text.terminal.printable(answer), markup=False)
