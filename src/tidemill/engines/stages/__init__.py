"""Maintaining staged SQL plans."""

from tidemill.engines.stages.choose import Chooser
from tidemill.engines.stages.describe import described, statements, summary
from tidemill.engines.stages.layout import Layout, lay_out, unfit_key
from tidemill.engines.stages.maintain import Maintenance
from tidemill.engines.stages.needed import needed

__all__ = ["Chooser", "Layout", "Maintenance", "described", "lay_out", "needed", "statements", "summary", "unfit_key"]
