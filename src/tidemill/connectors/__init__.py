"""The outside world: one folder or file a system, each behind the `Source` port."""
