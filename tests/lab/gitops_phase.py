"""`python gitops_phase.py plan | apply SPEC --site FILE`: the part of the phase manage that this is about, alone."""

from __future__ import annotations

import sys
from pathlib import Path

from gpuctl import app
from gpuctl.phases.manage import gitops
from gpuctl.phases.steps import carry_out
from gpuctl.run.errors import GpuctlError


def main(word: str, spec: str, _option: str, site: str) -> int:
    options = app.Options(Path(spec), Path(site), yes=True, command="gitops")
    try:
        with app.session(options, mutates=word == "apply") as ctx:
            steps = gitops.plan(ctx)
            for step in steps:
                print(f"{step.change.action} {step.change.target}  {step.change.summary}  {step.change.disruption}")
            if word == "apply":
                carry_out(ctx, steps)
    except GpuctlError as error:
        print("\n".join(error.lines()), file=sys.stderr)
        return int(error.exit_code)
    return 3 if steps and word == "plan" else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
