raise SystemExit("cannot")
