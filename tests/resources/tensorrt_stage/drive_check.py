"""Judge a file of the day's folder on the stage: `drive_check.py <folder> <check> <file> <params>`."""

import json
import sys
import tempfile
from pathlib import Path

from tasks import api, catalog

day, check = Path(sys.argv[1]) / "day", catalog.CHECKS[sys.argv[2]]
work = api.Workspace(day=day, scratch=Path(tempfile.mkdtemp(dir=sys.argv[1])), settings={})
verdict = check.check(day / sys.argv[3], check.Params.model_validate_json(sys.argv[4]), work)
print(json.dumps({"ok": verdict.ok, "message": verdict.message}))
