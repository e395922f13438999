"""The `lm-eval` command: lm-evaluation-harness's own command line, with our models added as `spg_llada`."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from spg_trainer.settings.flags import HELP

INSTALL = "pip install 'lm-eval>=0.4.13,<0.5' 'pytablewriter>=1.2' requests"
WITHOUT = f"""\
usage: python -m spg_trainer lm-eval run --model spg_llada --model_args pretrained=MODEL --tasks TASK ...

Runs lm-evaluation-harness with a masked diffusion model, decoded by our sampler. All flags are the harness's own. They
are shown here once it is installed:

  {INSTALL}

Tasks whose answers are generated (gsm8k) and tasks whose choices are ranked by their log-likelihood (arc_easy,
hellaswag, mmlu) can stand in one command. --model_args takes what the flags of training take: pretrained, env,
max_completion_length, block_length, diffusion_steps, cache, ..., and num_masks for log-likelihoods.
"""
"""What --help shows where lm-evaluation-harness is not installed."""


def main(args: Sequence[str]) -> None:
    """lm-eval's command line, on a GPU if there is one. Raises ImportError where it is not installed."""
    if find_spec("lm_eval") is None:
        if HELP & {*args}:
            sys.stdout.write(WITHOUT)
            return
        raise ImportError(f"lm-evaluation-harness is not installed: {INSTALL}")
    from lm_eval.__main__ import cli_evaluate

    import spg_trainer.evaluation.lm_eval  # noqa: F401  adds `spg_llada` to the harness's models

    # The harness's own default is a GPU, which may not be there.
    is_our_model = any("spg_llada" in word for word in args)
    names_device = any(word.startswith("--device") for word in args)
    device = ["--device", "auto"] if is_our_model and not names_device else []
    sys.argv = ["lm-eval", *args, *device]
    cli_evaluate()
