"""Image classifiers on timm. Importing this package registers them with `timm.create_model`."""

from ddfnet.models.classification import dynet, resnet, rivals  # noqa: F401 - register the networks
