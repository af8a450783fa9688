"""``python -m gpuctl`` and the ``gpuctl`` command."""

from __future__ import annotations


def main() -> None:
    """Entry point."""
    from gpuctl.cli import main as run

    run()


if __name__ == "__main__":
    main()
