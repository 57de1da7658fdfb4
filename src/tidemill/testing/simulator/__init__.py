"""The simulator: whole histories of a project on a fake clock, from seeds, compared with the batch recomputation.

Production's loop, heart and performers run over fakes of everything around them. A history says what is defined and
what happens, faults included; `simulate` plays one and raises where a promise was broken. A failing seed is one command:

    python -m tidemill.testing.simulator --seed N

Read first: words.py (what can happen), player.py (how it happens), oracle.py (what must be true at the end).
"""

from tidemill.testing.simulator.generate import SIZE, history_of
from tidemill.testing.simulator.machine import Machine
from tidemill.testing.simulator.simulate import Broken, simulate, sweep
from tidemill.testing.simulator.words import History

__all__ = ["SIZE", "Broken", "History", "Machine", "history_of", "simulate", "sweep"]
