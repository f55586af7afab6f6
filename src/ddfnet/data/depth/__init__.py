"""Photographs with depth."""
