"""The autoscaler follows the load, up and down, and no request notices."""

from __future__ import annotations

import json
import time

from tests.cluster.conftest import NAME, Deployed, settled
from tests.cluster.load import steady_load

QUICK = {
    "spec": {
        "maxReplicas": 4,
        "behavior": {
            "scaleDown": {
                "stabilizationWindowSeconds": 5,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 5}],
            }
        },
    }
}


def wait_for_replicas(deployed: Deployed, reached: int, seconds: float) -> None:
    """Until so many pods are ready, and no other."""
    deadline, found = time.monotonic() + seconds, -1
    while time.monotonic() < deadline:
        found = deployed.get(f"deployment/{NAME}")["status"].get("readyReplicas", 0)
        if found == reached:
            return
        time.sleep(1)
    raise AssertionError(f"{found} pods are ready, not {reached}:\n{deployed.kubectl('describe', 'hpa', NAME)}")


def test_load_brings_pods_and_its_end_takes_them_away(deployed: Deployed) -> None:
    settled(deployed)
    wait_for_replicas(deployed, 2, 150)
    deployed.kubectl("patch", "hpa", NAME, "--type", "merge", "--patch", json.dumps(QUICK))
    rows = json.dumps([json.loads(deployed.row)] * 200).encode()
    try:
        with steady_load(deployed.url, deployed.row, threads=1, pause=0.1):
            with steady_load(deployed.url, rows, threads=4, pause=0):
                wait_for_replicas(deployed, 4, 150)
            wait_for_replicas(deployed, 2, 200)
    finally:
        deployed.kubectl("apply", "--kustomize", "k8s")
        settled(deployed)
