"""``python -m lab``: build, up, down, run, status, fault. scripts/lab is the way to call it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from lab.paths import Instance
from lab.shell import LabError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description="The rehearsal lab: an air-gapped site on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text)
        if name != "build":
            command.add_argument("--name", default="lab", help="up to 8 letters and digits (default: lab)")
        return command

    add("build", "build what no registry offers, into the cache")
    up = add("up", "bring a lab up for a spec's network")
    up.add_argument("--spec", type=Path, required=True, help="cluster.yaml whose LAN and GPU count the lab plays")
    add("down", "take a lab away, whatever state it is in")
    run = add("run", "run a command inside the lab's network")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    add("status", "what is up")
    fault = add("fault", "cause a fault: scripts/lab fault NAME key=value ...")
    fault.add_argument("fault")
    fault.add_argument("arguments", nargs="*", metavar="key=value")
    daemon = add("daemon", "the lab's own process (started by up)")
    daemon.add_argument("--gpus", type=int, required=True)
    return parser


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> int:
    """Exit code of the command."""
    options = _parser().parse_args()
    from lab import build, client, instance

    if options.command == "build":
        build.build()
        return 0
    lab = Instance(options.name)
    if options.command == "up":
        started = time.monotonic()
        instance.up(lab, options.spec)
        print(f"lab {lab.name} is up in {time.monotonic() - started:.1f} s; site file {lab.site_file}")
    elif options.command == "down":
        instance.down(lab)
        print(f"lab {lab.name} is gone")
    elif options.command == "run":
        command = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
        if not command:
            raise LabError("nothing to run: scripts/lab run --name NAME -- COMMAND")
        if not Path(f"/run/netns/{lab.lan}").exists():
            raise LabError(f"the lab {lab.name} is not up: scripts/lab up --name {lab.name} --spec cluster.yaml")
        sys.stdout.flush()
        argv = ["nsenter", f"--net=/run/netns/{lab.lan}", *command]
        os.execvpe("nsenter", argv, instance.environment(lab))
    elif options.command == "status":
        for name in instance.names():
            pid = instance.daemon_pid(Instance(name))
            print(
                f"{name}: {'up, daemon ' + str(pid) if pid else 'left behind (scripts/lab down --name ' + name + ')'}"
            )
    elif options.command == "fault":
        arguments = dict(pair.partition("=")[::2] for pair in options.arguments)
        result = client.call(lab, options.fault, **{key: _value(value) for key, value in arguments.items()})
        if result is not None:
            print(result if isinstance(result, str) else json.dumps(result, indent=2))
    elif options.command == "daemon":
        from lab import daemon

        daemon.main(lab, build.build(), options.gpus)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
