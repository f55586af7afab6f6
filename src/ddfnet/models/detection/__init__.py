"""Detectors on torchvision."""
