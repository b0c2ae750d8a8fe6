"""In a container: do these packages and tools work? Prints one JSON line. Standard library only."""

import importlib
import json
import subprocess
import sys

C = "int main(void) { return 42; }"


def package(name: str) -> str:
    """Its version, when it can be imported; torch must also multiply two matrices rightly."""
    module = importlib.import_module(name)
    if name == "torch" and (module.ones(2, 3) @ module.ones(3, 2)).tolist() != [[3.0, 3.0], [3.0, 3.0]]:
        raise ValueError("torch multiplies wrongly")
    return str(module.__version__)


def tool(name: str) -> str:
    """The first line of its version; a C compiler must also make a program that runs."""
    said = subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    if name in ("gcc", "cc", "clang"):
        subprocess.run([name, "-x", "c", "-", "-o", "/tmp/compiled"], input=C, text=True, check=True)
        if subprocess.run(["/tmp/compiled"]).returncode != 42:
            raise ValueError(f"what {name} compiled does not work")
    return said.split()[-1]


def main(wanted: dict[str, list[str]]) -> None:
    works, faults = {}, []
    for names, probe, verb in ((wanted["imports"], package, "import"), (wanted["tools"], tool, "run")):
        for name in names:
            try:
                works[name] = probe(name)
            except (ImportError, OSError, ValueError, subprocess.CalledProcessError) as error:
                faults.append(f"cannot {verb} {name} in the image: {error}")
    print(json.dumps({"works": works, "faults": faults}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
