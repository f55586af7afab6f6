"""Image classifiers on timm."""
