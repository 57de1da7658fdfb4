"""Who computes: one folder or file an engine, each behind the `Engine` port."""
