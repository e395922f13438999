"""`python -m tests.common.one_fails_inside ARGUMENTS`: a training whose second process fails inside a layer.

It is a layer of the first update's first pass, in its `forward` or `backward`, as $SPG_TEST_FAILS_IN says.
"""

import os
import sys

import torch

from spg_trainer.cli import main
from spg_trainer.distributed import rank
from spg_trainer.models.forward import base_model
from spg_trainer.training import update

original = update.gradient


def gradient(policy, *arguments):
    layer = base_model(policy.model).get_submodule("model.layers.0")

    def fail(*_):
        raise RuntimeError("out of memory")

    def fail_backward(module, inputs, output):
        (output if torch.is_tensor(output) else output[0]).register_hook(fail)

    if rank() == 1:
        layer.register_forward_hook(fail if where == "forward" else fail_backward)
    return original(policy, *arguments)


if __name__ == "__main__":
    where = os.environ["SPG_TEST_FAILS_IN"]
    update.gradient = gradient
    sys.exit(main(sys.argv[1:]))
