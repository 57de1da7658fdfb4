"""The heart: nouns and decisions, pure, standard library only. Read `orchestrate.py` first."""
