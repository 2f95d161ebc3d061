"""Tests mirror the packages: tests/models, tests/explorer; ui holds the journeys in a real browser."""
