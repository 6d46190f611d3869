"""Helpers that do not depend on MoMo."""
