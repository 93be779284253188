"""The same networks in PyTorch with Opacus (hooks and ghost clipping), in an environment of their own.

    python -m benchmarks.peers
    python -m benchmarks.peers --networks lenet --batches 256 --json peers.json

The environment is made once (`--environment`, by default in the user's cache) and used again.
"""
import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks import timing

REQUIREMENTS = ("torch==2.13.0", "opacus")
NETWORKS = ("lenet", "vgg", "transformer", "mlp")
_DEFAULT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mindarmour" / "peers"


def environment(path):
    """Path of the Python of the peers' environment; makes it if need be."""
    python = Path(path) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (Path(path) / "ready").exists():
        print(f"making an environment with {', '.join(REQUIREMENTS)}", file=sys.stderr)
        venv.create(path, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        (Path(path) / "ready").touch()
    return python


def run(python, networks, batches, rounds):
    """(facts about the peer, results) of a run of `torch_peer`."""
    script = Path(__file__).with_name("torch_peer.py")
    command = [python, script, "--networks", *networks, "--batches", *map(str, batches), "--rounds", str(rounds)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    facts, *results = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return facts, results


def table(results):
    """The results as Markdown."""
    rows = [(r["network"], r["batch"], r["engine"], f"{r['median_ms']:.1f}", f"{r['min_ms']:.1f}",
             f"{r['ratio']:.2f}", f"{r['min_ratio']:.2f}") for r in results]
    return timing.markdown(("network", "batch", "step", "median ms", "min ms", "ratio (median)", "ratio (min)"), rows)


def main(argv=None):
    """Run the benchmark; returns the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--environment", default=str(_DEFAULT), help="folder of the peers' environment")
    parser.add_argument("--json", help="write the results to this file")
    args = parser.parse_args(argv)
    facts, results = run(environment(args.environment), args.networks, args.batches, args.rounds)
    facts = {**timing.machine(), **facts}
    print(table(results))
    print("\n" + ", ".join(f"{key} {value}" for key, value in facts.items()))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"machine": facts, "results": results}, file, indent=1)
    return results


if __name__ == "__main__":
    main()
