"""Pages in front of a model: served, used by many at once and by a real browser."""
