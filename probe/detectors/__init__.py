"""Detectors: one topic a file; the table of them is in probe.engine's caller, probe.registry."""
