"""The model that hpa.yaml brings to a cluster: a real Triton serves it, and it answers as the stand-in's does."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from runner import environments
from tasks.services import cluster

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys
from pathlib import Path
from urllib.request import Request, urlopen
from tasks.services import model_repository, triton
from tasks.services.ray_model import Network
config, body, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
model_repository.add_model(folder / "models", "network", config, source=folder / "model.py")
with triton.serve(folder / "models", folder / "log") as server:
    request = Request(f"http://{server.http}/v2/models/network/infer", data=body.encode())
    print(urlopen(request, timeout=120).read().decode())
print(Network(8).answer(7))
"""


@pytest.mark.slow
def test_the_models_of_cluster_and_stand_in_agree(tmp_path: Path) -> None:
    parts = yaml.safe_load_all((ROOT / "plans" / "week03" / "day20" / "hpa.yaml").read_text(encoding="utf-8"))
    files = next(part["data"] for part in parts if part["kind"] == "ConfigMap")
    (tmp_path / "model.py").write_text(files["model.py"], encoding="utf-8")
    body = cluster.BODY.replace("{seed}", "7")
    python = environments.provision(ROOT, "triton", "managed", print)
    done = subprocess.run(
        [str(python), "-c", CHILD, files["config.pbtxt"], body, str(tmp_path)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    served, expected = done.stdout.splitlines()[-2:]
    assert json.loads(served)["outputs"][0]["data"] == [pytest.approx(float(expected), abs=1e-5)]
