"""Draws a moving picture of a Sudoku that a trained model denoises: python docs/denoising.py MODEL [OUTPUT.svg]

MODEL is a run folder, e.g. that of the README's first command. The picture shows a real completion of a test problem,
decoded one token a step: which digit of the board is written in which step, and the text itself beside it.
"""

import sys
from html import escape
from pathlib import Path

import envs
from spg_trainer import EvalSampling, defaults, generate, load_model
from spg_trainer.rollout.player import Player, answer_prompts
from spg_trainer.rollout.tokens import decode_completions

CELL, LEFT, TOP = 44, 16, 16
STEP, PAUSE = 0.35, 2.5
"""Seconds that a step, and the finished board, are shown."""
PROBLEM = 0
GIVEN, WRITTEN, NEW, MASKED = "#57606a", "#0969da", "#1a7f37", "#d0d7de"


def main(model: str, output: str) -> None:
    policy = load_model(model, device="cpu")
    env = envs.make("sudoku", split="test").unwrapped
    problem = env.problem(PROBLEM)
    sampling = defaults(EvalSampling, model=model)
    sampling = defaults(EvalSampling, model=model, diffusion_steps=sampling.max_completion_length)
    rollouts = answer_prompts(Player(policy, sampling), [problem.prompt])
    (text,) = decode_completions(policy, rollouts)
    assert text == generate(policy, [problem.prompt], sampling)[0]
    if env.score(problem, text).rewards["correct"] != 1.0:
        raise SystemExit(f"{model} does not solve test problem {PROBLEM}: {text}")
    mask = rollouts.completion_mask[0]
    ids = [token for token in rollouts.completion_ids[0][mask].tolist() if token not in policy.end_token_ids]
    tokens = [policy.tokenizer.decode([token]) for token in ids]
    steps = rollouts.unmask_step[0][mask].tolist()[: len(tokens)]
    Path(output).write_text(picture(problem.reference["puzzle"], tokens, steps))


def picture(puzzle: str, tokens: list[str], steps: list[int]) -> str:
    """The SVG of a board whose cells and tokens appear in the steps in which they were written."""
    size = int(len(puzzle) ** 0.5)
    box = int(size**0.5)
    shown = sorted(set(steps))
    order = {step: number for number, step in enumerate(shown)}
    total = len(shown) * STEP + PAUSE
    digits = [place for place, token in enumerate(tokens) if token.isdigit()]
    width, board = 2 * LEFT + 520, size * CELL
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {board + 2 * TOP}" role="img" '
        'font-family="ui-monospace, SFMono-Regular, Menlo, monospace" text-anchor="middle">',
        "<title>A Sudoku that the trained model denoises, one token a step</title>",
        f"<style>.m,.t{{animation-duration:{total:.2f}s;animation-iteration-count:infinite;",
        "animation-timing-function:step-end}",
    ]
    for number in range(len(shown)):
        begin, end = (100 * moment / total for moment in ((number + 0.5) * STEP, (number + 1.5) * STEP))
        # What a step writes is hidden before it, marked during it, and plain after it.
        parts.append(
            f"@keyframes t{number}{{0%{{opacity:0}}{begin:.2f}%{{opacity:1;fill:{NEW}}}"
            f"{end:.2f}%{{opacity:1;fill:{WRITTEN}}}}}"
            f"@keyframes m{number}{{0%{{opacity:1}}{begin:.2f}%{{opacity:0}}}}"
            f".t{number}{{animation-name:t{number}}}.m{number}{{animation-name:m{number}}}"
        )
    parts.append("</style>")
    parts.append(f'<rect width="{width}" height="{board + 2 * TOP}" rx="8" fill="#ffffff"/>')
    for line in range(size + 1):
        thick = 2.5 if line % box == 0 else 1
        at_x, at_y = LEFT + line * CELL, TOP + line * CELL
        parts.append(
            f'<path d="M{LEFT} {at_y}H{LEFT + board}M{at_x} {TOP}V{TOP + board}" stroke="#24292f" '
            f'stroke-width="{thick}"/>'
        )
    for cell, given in enumerate(puzzle):
        x, y = LEFT + (cell % size + 0.5) * CELL, TOP + (cell // size + 0.5) * CELL + 7
        if given != "0":
            parts.append(
                f'<text x="{x}" y="{y}" font-size="22" font-weight="bold" fill="{GIVEN}">{given}</text>'
            )
        else:
            parts += appearing(tokens[digits[cell]], order[steps[digits[cell]]], x, y, 22)
    advance, x, y = 15.5, LEFT + board + 34, TOP + board / 2
    parts.append(
        f'<text x="{x}" y="{y - 34}" font-size="13" fill="{GIVEN}" text-anchor="start">'
        "the completion, token by token</text>"
    )
    for token, step in zip(tokens, steps, strict=True):
        wide = advance * max(1, len(token)) * 0.62
        parts += appearing(token, order[step], x + wide / 2, y, 15)
        x += wide
    return "\n".join([*parts, "</svg>\n"])


def appearing(token: str, number: int, x: float, y: float, size: int) -> list[str]:
    """A mask, and the token that takes its place in a step."""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}"'
    return [
        f'<text {place} fill="{MASKED}" class="m m{number}" opacity="0">{"▒" * min(len(token), 8)}</text>',
        f'<text {place} fill="{WRITTEN}" class="t t{number}">{escape(token)}</text>',
    ]


if __name__ == "__main__":
    main(
        sys.argv[1],
        sys.argv[2] if len(sys.argv) > 2 else str(Path(__file__).parent / "images" / "denoising.svg"),
    )
