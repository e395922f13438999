"""Lists the settings in which the columns of a comparison differ; a column is an algorithm with its arguments.

Without this list, the effect of a recipe might be taken for that of an algorithm.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from spg_trainer import algorithms
from spg_trainer.settings.fields import Config
from spg_trainer.settings.values import flatten, plain

OF_A_RUN = frozenset("algorithm seed dry_run output.output_dir output.resume".split())
"""Settings that differ between the runs of a comparison anyway; the list leaves them out."""


def table_of_differences(tasks: Mapping[str, Mapping[str, Config]]) -> str:
    """The settings in which the columns of each task differ, as a Markdown table; "" where there are none.

    tasks: {task: {column: its settings}}. "-" stands for a setting that a column does not have.
    """
    tables = []
    for task, columns in tasks.items():
        values = {name: all_settings(config) for name, config in columns.items()}
        names = dict.fromkeys(name for settings in values.values() for name in settings)
        differing = []
        for name in names:
            shown = [str(settings.get(name, "-")) for settings in values.values()]
            if len(set(shown)) > 1:
                differing.append([name, *shown])
        if differing:
            head = [f"{task}: settings that differ", *columns]
            tables.append([head, ["---"] * len(head), *differing])
    texts = ["".join(f"| {' | '.join(row)} |\n" for row in table) for table in tables]
    return "\n".join(texts)


def all_settings(config: Config) -> dict[str, Any]:
    """{dotted name: value} of all settings of a training but `OF_A_RUN`, with all hyper-parameters of its algorithm."""
    algorithm = algorithms.build(config.algorithm, config.hyper_parameters)
    return flatten(plain(replace(config, algorithm_args=asdict(algorithm))), ignore=OF_A_RUN)
