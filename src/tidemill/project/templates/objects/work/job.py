"""What every job of this project does until you put your own programs there: say its name and what it was given.

A job fails while a file `work/NAME.broken` exists: make `work/job_2.broken`, run, remove it, run again.
"""

import json
import os
import sys
from pathlib import Path

name = sys.argv[1]
run = json.loads(os.environ["TIDEMILL_RUN"])
if Path(f"work/{name}.broken").exists():
    sys.exit(f"{name} is broken: remove work/{name}.broken to mend it")
with Path("work/log.txt").open("a") as log:
    log.write(f"{name} {run['idempotency_key'][:8]} {json.dumps(run['inputs'])}\n")
