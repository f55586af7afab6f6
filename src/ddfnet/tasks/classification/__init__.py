"""Image classification (Tables 3 to 5)."""

from ddfnet.tasks.classification.data import Cifar10Data, ClassificationData, FashionMnistData, ImageFolderData
from ddfnet.tasks.classification.task import Classification

__all__ = ["Cifar10Data", "Classification", "ClassificationData", "FashionMnistData", "ImageFolderData"]
