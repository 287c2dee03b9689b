"""Hypothesis on shared machines: no time limit for one example, and the first one may wait for Unicode's tables."""

from hypothesis import HealthCheck, settings

settings.register_profile("probe", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("probe")
