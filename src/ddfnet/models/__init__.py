"""Floor 3: networks. Importing this package registers them with `timm.create_model`."""

from ddfnet.models import resnet  # noqa: F401 - registers the networks
from ddfnet.models.checkpoints import load_released
from ddfnet.models.complexity import Complexity, complexity

__all__ = ["Complexity", "complexity", "load_released"]
