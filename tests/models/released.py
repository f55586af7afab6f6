"""The authors' network from PAPER's facts alone: plain PyTorch, unfolded patches, none of ddfnet's code."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ReleasedFilterNorm(nn.Module):
    def __init__(self, filters: int, taps: int, scale: float, learned: bool) -> None:
        super().__init__()
        self.filters, self.taps, self.scale = filters, taps, scale
        if learned:
            self.std = nn.Parameter(torch.randn(filters * taps) * scale)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        x = x.view(b, self.filters, self.taps, h, w)
        x = (x - x.mean(2, keepdim=True)) / (x.std(2, keepdim=True) + 1e-10)
        x = x.view(b, -1, h, w)
        return x * (self.std.view(1, -1, 1, 1) if hasattr(self, "std") else self.scale)


class ReleasedDDF(nn.Module):
    def __init__(self, channels: int, stride: int, combine: str) -> None:
        super().__init__()
        squeezed, scale = int(0.2 * channels), nn.init.calculate_gain("relu") / 3
        self.stride, self.combine = stride, combine
        self.spatial_branch = nn.Sequential(
            nn.Conv2d(channels, 9, 1, stride=stride), ReleasedFilterNorm(1, 9, scale, learned=False)
        )
        self.channel_branch = nn.Sequential(
            nn.AdaptiveAvgPool2d((1, 1)),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(True),
            nn.Conv2d(squeezed, channels * 9, 1),
            ReleasedFilterNorm(channels, 9, scale, learned=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.shape
        spatial = self.spatial_branch(x)
        h, w = spatial.shape[2:]
        channel = self.channel_branch(x).view(b, c, 9, 1)
        spatial = spatial.view(b, 1, 9, h * w)
        filters = channel * spatial if self.combine == "mul" else channel + spatial
        patches = F.unfold(x, 3, padding=1, stride=self.stride).view(b, c, 9, h * w)
        return (filters * patches).sum(2).view(b, c, h, w)


class ReleasedBottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, combine: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = ReleasedDDF(width, stride, combine), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride > 1 or inputs != 4 * width:
            conv = nn.Conv2d(inputs, 4 * width, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ReleasedResNet(nn.Module):
    def __init__(self, blocks: tuple[int, ...] = (3, 4, 6, 3), classes: int = 1000, combine: str = "mul") -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(64)
        inputs = 64
        for stage, count in enumerate(blocks):
            width = 64 * 2**stage
            layers = []
            for block in range(count):
                layers.append(ReleasedBottleneck(inputs, width, 2 if stage and not block else 1, combine))
                inputs = 4 * width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


def released_resnet(combine: str = "mul", classes: int = 10) -> ReleasedResNet:
    """A ResNet50 with weights and statistics drawn so that no layer's output vanishes or explodes."""
    torch.manual_seed(0)
    model = ReleasedResNet(classes=classes, combine=combine)
    with torch.no_grad():
        model.train()
        for _ in range(3):  # running statistics of its own
            model(torch.randn(4, 3, 64, 64))
        for name, p in model.named_parameters():
            if "bn" in name:
                p.add_(torch.randn_like(p) * 0.1)
    return model.eval()
