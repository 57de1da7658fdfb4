"""What goes on until it is stopped: its heap is settled meanwhile, and let go at the end."""

from __future__ import annotations

import gc

import pytest

from tidemill.cli.live import _settled_heap


def interrupted() -> None:
    with _settled_heap():
        assert gc.get_freeze_count() > 1_000
        raise KeyboardInterrupt


def test_what_is_loaded_is_not_looked_through_again_until_the_end() -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not gc.get_freeze_count()
