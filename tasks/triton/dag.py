"""The tensor maps of an ensemble as a graph: do its steps form a DAG from the inputs to the outputs?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from tasks.triton.config import find_line


def problems(ensemble: Any, text: str) -> Iterator[tuple[int, str]]:
    """Everything that keeps the ensemble's steps from being a DAG: (line of `text`, what is wrong)."""
    steps = list(ensemble.ensemble_scheduling.step)
    inputs = {tensor.name for tensor in ensemble.input}
    writers: dict[str, str] = dict.fromkeys(inputs, "the ensemble's input")
    for step in steps:
        if not (step.model_name and step.input_map and step.output_map):
            yield line_of_step(text, step), f"step {step.model_name!r} needs a model_name, input_map and output_map"
        for tensor in step.output_map.values():
            if tensor in writers:
                yield (
                    line_of(text, tensor),
                    f'"{tensor}" is written by {writers[tensor]} and {step.model_name}',
                )
            writers[tensor] = step.model_name
    for step in steps:
        for tensor in step.input_map.values():
            if tensor not in writers:
                yield line_of(text, tensor), f'{step.model_name} reads "{tensor}", which nothing writes'
    read = {tensor for step in steps for tensor in step.input_map.values()}
    for tensor in sorted(set(writers) - read - {output.name for output in ensemble.output}):
        yield line_of(text, tensor), f'"{tensor}", written by {writers[tensor]}, is used by nothing'
    for output in ensemble.output:
        if output.name not in writers or output.name in inputs:
            yield line_of(text, output.name), f'the output "{output.name}" is written by no step'
    if cycle := find_cycle(ensemble):
        yield (
            line_of_step(text, steps[cycle[0]]),
            "the steps wait for each other: " + " > ".join(steps[i].model_name for i in cycle),
        )


def order(ensemble: Any) -> list[str]:
    """The models in an order in which Triton may run them; the graph must have no cycle."""
    steps = ensemble.ensemble_scheduling.step
    return [steps[i].model_name for i in graph(ensemble).static_order()]


def graph(ensemble: Any) -> TopologicalSorter[int]:
    """Which step (by its position) waits for which."""
    steps = list(enumerate(ensemble.ensemble_scheduling.step))
    writers = {tensor: i for i, step in steps for tensor in step.output_map.values()}
    waits_for = {i: {writers[t] for t in step.input_map.values() if t in writers} for i, step in steps}
    return TopologicalSorter(waits_for)


def find_cycle(ensemble: Any) -> list[int]:
    try:
        graph(ensemble).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def line_of(text: str, tensor: str) -> int:
    """The line that first names a tensor of the ensemble: as a map's value, else as an input or output."""
    quoted = f'"{re.escape(tensor)}"'
    line = find_line(text, rf"value:?\s*{quoted}")
    return line if line > 1 else find_line(text, rf"name:?\s*{quoted}")


def line_of_step(text: str, step: Any) -> int:
    return find_line(text, rf'model_name:?\s*"{re.escape(step.model_name)}"')
