"""Specs that nobody wrote, and what must hold for every one of them: for the unit tests and for scripts/soak."""
