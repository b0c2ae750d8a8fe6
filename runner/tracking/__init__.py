"""Records on disk → MLflow: idempotent, replayable, each record exactly once whatever dies.

Importing this costs no MLflow: that is only ever loaded in a child process.
"""

from runner.tracking.markers import pending
from runner.tracking.settings import TrackingSettings
from runner.tracking.supervise import Sent, close_orphans, sync
from runner.tracking.ui import ui

__all__ = ["Sent", "TrackingSettings", "close_orphans", "pending", "sync", "ui"]
