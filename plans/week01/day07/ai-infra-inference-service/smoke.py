"""Asks the running service for a digit and checks the answer: python3 smoke.py http://127.0.0.1:8080"""

import json
import sys
from urllib.request import Request, urlopen

SEVEN = [
    0, 0, 3, 15, 16, 16, 5, 0,
    0, 0, 10, 12, 10, 16, 6, 0,
    0, 2, 15, 2, 3, 16, 1, 0,
    0, 0, 2, 3, 10, 13, 2, 0,
    0, 0, 3, 16, 16, 16, 10, 0,
    0, 0, 0, 12, 13, 7, 1, 0,
    0, 0, 1, 16, 6, 0, 0, 0,
    0, 0, 5, 14, 2, 0, 0, 0,
]  # fmt: skip


def ask(gateway: str) -> int:
    """The class that the service sees in the seven."""
    tensor = {"name": "image", "shape": [1, 64], "datatype": "FP32", "data": [grey / 16 for grey in SEVEN]}
    body = json.dumps({"inputs": [tensor]}).encode()
    with urlopen(Request(f"{gateway}/infer", body, {"Content-Type": "application/json"}), timeout=10) as answer:
        logits = json.load(answer)["outputs"][0]["data"]
    return max(range(10), key=logits.__getitem__)


if __name__ == "__main__":
    seen = ask(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080")
    print(f"the service sees a {seen}")
    sys.exit(seen != 7)
