"""For overload.py, in the project's environment: the project's model with matrix products that change nothing.

python slow_model.py HOW_MANY
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import Any

served: Any = import_module("served")
SIZE = 2_048


def main() -> None:
    """Write slow.onnx; print how long it takes, and a row to ask for."""
    model = served.project("settings").load(served.project("settings").ModelSettings).model
    path = served.FOLDER / "slow.onnx"
    work = int(sys.argv[1])
    path.write_bytes(slowed(model, work) if work else model.read_bytes())
    loaded = served.project("inference.model").load(path)
    example = loaded.metadata["example"]
    row = served.Encoder(loaded.contract)([example])
    many = import_module("numpy").repeat(row, 64, axis=0)
    print(json.dumps({"example": example, "one": taken(loaded, row), "many": taken(loaded, many)}))


def slowed(path: Any, work: int) -> bytes:
    """The graph with `work` products on the way from its input to its first steps, of which zero times is added."""
    onnx, numpy = import_module("onnx"), import_module("numpy")
    make, as_tensor = onnx.helper.make_node, onnx.numpy_helper.from_array
    model = onnx.load(path)
    graph = model.graph
    name, width = graph.input[0].name, graph.input[0].type.tensor_type.shape.dim[1].dim_value
    for node in graph.node:
        node.input[:] = ["slowed" if each == name else each for each in node.input]
    constants = {
        "slow.start": numpy.zeros((width, SIZE), dtype=numpy.float32),
        "slow.step": numpy.zeros((SIZE, SIZE), dtype=numpy.float32),
        "slow.end": numpy.zeros((SIZE, width), dtype=numpy.float32),
        "slow.zero": numpy.zeros(1, dtype=numpy.float32),
    }
    graph.initializer.extend(as_tensor(values, each) for each, values in constants.items())
    # Missing values are NaN; they must not come into the products.
    nodes = [make("IsNaN", [name], ["slow.nan"]), make("Where", ["slow.nan", "slow.zero", name], ["slow.known"])]
    nodes.append(make("MatMul", ["slow.known", "slow.start"], ["slow.0"]))
    nodes += [make("MatMul", [f"slow.{i}", "slow.step"], [f"slow.{i + 1}"]) for i in range(work)]
    nodes.append(make("MatMul", [f"slow.{work}", "slow.end"], ["slow.last"]))
    nodes.append(make("Add", [name, "slow.last"], ["slowed"]))
    old = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *old])
    content: bytes = model.SerializeToString()
    return content + bytes(served.project("inference.model").seal(content))


def taken(model: Any, matrix: Any) -> float:
    """Milliseconds of one inference: the median of ten."""
    times = []
    for _ in range(10):
        began = time.perf_counter()
        model.run(matrix)
        times.append(time.perf_counter() - began)
    return sorted(times)[5] * 1e3


if __name__ == "__main__":
    main()
