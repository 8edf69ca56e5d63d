"""A real Kubernetes for development, tests and the demo: `python -m hack.cluster --help`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

from hack.cluster import commands
from hack.cluster.shell import ClusterError


def parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    whole = argparse.ArgumentParser(prog="python -m hack.cluster", description=__doc__)
    sub = whole.add_subparsers(dest="command", required=True)
    up = sub.add_parser("up", help="start the cluster, or find the one that runs")
    up.add_argument("--monitoring", action="store_true", help="with Prometheus and its operator")
    down = sub.add_parser("down", help="remove the cluster and everything it left")
    down.add_argument("--any", action="store_true", help="also when another checkout started it")
    status = sub.add_parser("status", help="say what runs and where")
    status.add_argument("--json", action="store_true", help="for programs")
    images = sub.add_parser("images", help="build the images and load them")
    images.add_argument("--only", choices=["operator", "trainer"], help="one of the two")
    load = sub.add_parser("load", help="load images that Docker or buildah has")
    load.add_argument("image", nargs="+")
    monitoring = sub.add_parser("monitoring", help="add or remove Prometheus in a running cluster")
    monitoring.add_argument("switch", choices=["on", "off"])
    sub.add_parser("doctor", help="say what this machine offers and what is missing")
    kill = sub.add_parser("kill-process", help="SIGKILL a container's first process from the node")
    for option in ("namespace", "pod", "container"):
        kill.add_argument(f"--{option}", required=True)
    return whole


def main(arguments: list[str]) -> int:
    """Run one command; 1 is a failure that its line explains."""
    chosen = parser().parse_args(arguments)
    try:
        commands.run(chosen)
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cluster: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
