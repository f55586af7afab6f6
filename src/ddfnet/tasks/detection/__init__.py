"""Object detection (Table 6)."""

from ddfnet.tasks.detection.data import CocoData, DetectionData, GarmentsData
from ddfnet.tasks.detection.task import Detection

__all__ = ["CocoData", "Detection", "DetectionData", "GarmentsData"]
