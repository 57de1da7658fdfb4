"""The loop: events come in, the heart decides, effects go out through ports."""
