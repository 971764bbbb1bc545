"""Train, serve and keep one model: `uv run {name} --help`, with the name from pyproject.toml.

onnxruntime sends telemetry from official wheels unless this variable is set before its import,
so it is set here, before any module of this package can import it. OpenMP threads that spin while they wait
would take the processor from each other on a busy machine.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
