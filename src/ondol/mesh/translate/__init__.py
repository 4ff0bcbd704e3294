"""From objects to a consistent xDS snapshot, as pure functions; `translator` is the way in."""
