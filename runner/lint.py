"""`run lint`: placeholder until the content is there."""
