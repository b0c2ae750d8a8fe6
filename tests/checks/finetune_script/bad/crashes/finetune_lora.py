raise SystemExit("no such model")
