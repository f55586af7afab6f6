"""Image classification (Tables 3 to 5)."""

from ddfnet.tasks.classification.data import ClassificationData, FashionMnistData, ImageFolderData
from ddfnet.tasks.classification.task import Classification

__all__ = ["Classification", "ClassificationData", "FashionMnistData", "ImageFolderData"]
