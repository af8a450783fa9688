"""doctor: is everything there that an apply needs? Facts are gathered once, judges are pure, nothing is changed."""
