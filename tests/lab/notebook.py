"""Notebooks as a user has them, for tests: python -m tests.lab.notebook SPEC SITE start|run|stop USER [PROFILE|CODE].

Runs inside the lab's network.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gpuctl import app
from gpuctl.context import Context
from gpuctl.phases.jupyter import reach
from gpuctl.systems.jupyterhub import Hub


def act(ctx: Context, hub: Hub, what: str, user: str, argument: str) -> str:
    """What there is to say about it."""
    deadline = ctx.deadline(120, f"{what} {user}")
    if what == "start":
        if user not in hub.users():
            hub.create_user(user)
        hub.start(user, argument)
        said = [message for message in hub.progress(user, deadline) if message]
        return "ready" if hub.server(user).ready else "\n".join(said)
    if what == "run":
        with hub.kernel(user, hub.token_for(user, 600)) as kernel:
            return kernel.run(argument, deadline)
    hub.stop(user, deadline)
    return "stopped"


def main() -> None:
    spec, site, what, user, *rest = sys.argv[1:]
    with app.session(app.Options(Path(spec), Path(site)), mutates=False) as ctx:
        assert ctx.spec.jupyterhub
        print(act(ctx, reach.client(ctx, ctx.spec.jupyterhub), what, user, rest[0] if rest else ""))


if __name__ == "__main__":
    main()
