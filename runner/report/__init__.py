"""Records in, reports out. Reads record files only and starts nothing: the same records give the same bytes."""

from runner.report.day import write_day
from runner.report.week import write_week

__all__ = ["write_day", "write_week"]
