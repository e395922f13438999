"""Peak memory of a training step as the number of masks grows: one pass against the constant-memory two passes.

Each figure is the memory above weights and gradients at the highest point of one step (forward, loss, backward), in a
process of its own. Shapes and model are those of training_step.py, with a vocabulary of 4096 by default, so that
activations rather than logits set the scale.

    python benchmarks/memory_curve.py [--masks 2 4 8 16] [--vocabulary 4096] [--threads 1]
"""

from training_step import measure_peak, parser


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--masks", type=int, nargs="+", default=[2, 4, 8, 16])
    flags.set_defaults(vocabulary=4096)
    arguments = flags.parse_args()
    print(f"V {arguments.vocabulary}; MB above weights and gradients")
    print(f"{'masks':>6}{'one pass':>10}{'two passes':>12}{'ratio':>8}")
    for count in arguments.masks:
        one, two = (measure_peak(form, arguments, count) for form in ("one_pass", "two_pass"))
        print(f"{count:>6}{one:>10.0f}{two:>12.0f}{one / two:>7.1f}x")


if __name__ == "__main__":
    main()
