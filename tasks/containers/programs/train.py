"""In a container: a training loop that keeps a log and a temporary file.

Prints one JSON line. Standard library only.
"""

import json
import os
import pathlib
import tempfile

LOG = pathlib.Path("/var/log/train/train.log")


def train(steps: int = 200) -> None:
    """Gradient descent on (w - 3)^2: a line in the log for each step, a checkpoint in /tmp at the end."""
    w = 0.0
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("w", encoding="utf-8") as log:
        for step in range(steps):
            w -= 0.1 * 2 * (w - 3)
            log.write(f"step {step} loss {(w - 3) ** 2:.6e}\n")
    with tempfile.NamedTemporaryFile("w", dir="/tmp") as checkpoint:
        checkpoint.write(json.dumps({"w": w}))
        checkpoint.flush()
        os.fsync(checkpoint.fileno())


if __name__ == "__main__":
    answer = {"errno": 0, "strerror": "", "file": "", "log_bytes": 0}
    try:
        train()
    except OSError as error:
        answer |= {"errno": error.errno, "strerror": error.strerror, "file": str(error.filename)}
    answer["log_bytes"] = LOG.stat().st_size if LOG.exists() else 0
    print(json.dumps(answer))
