"""Verdicts: one property a file; `check.py` is their interface, `battery.py` their order."""
