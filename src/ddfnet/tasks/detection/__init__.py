"""Object detection (Table 6)."""

from ddfnet.tasks.detection.data import DetectionData
from ddfnet.tasks.detection.task import Detection

__all__ = ["Detection", "DetectionData"]
