"""Geometry of the metrics: functions of a local metric tensor that know nothing of pymanopt."""
