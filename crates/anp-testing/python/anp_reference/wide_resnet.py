"""Wide residual networks in two layouts.

    meliketoy   GitHub meliketoy/wide-resnet.pytorch, which the paper ran: biases, the stride in a
                block's second convolution, and a shortcut from the block's raw input
    original    Zagoruyko & Komodakis 2016, arXiv:1605.07146
"""

from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, d_input, d_output, stride, meliketoy):
        super().__init__()
        strides = (1, stride) if meliketoy else (stride, 1)
        self.meliketoy = meliketoy
        self.norm1 = nn.BatchNorm2d(d_input)
        self.conv1 = nn.Conv2d(d_input, d_output, 3, strides[0], 1, bias=meliketoy)
        self.norm2 = nn.BatchNorm2d(d_output)
        self.conv2 = nn.Conv2d(d_output, d_output, 3, strides[1], 1, bias=meliketoy)
        self.shortcut = nn.Identity()
        if stride != 1 or d_input != d_output:
            self.shortcut = nn.Conv2d(d_input, d_output, 1, stride, 0, bias=meliketoy)

    def forward(self, x):
        activated = F.relu(self.norm1(x))
        hidden = self.conv2(F.relu(self.norm2(self.conv1(activated))))
        straight = self.meliketoy or isinstance(self.shortcut, nn.Identity)
        return hidden + self.shortcut(x if straight else activated)


class WideResNet(nn.Module):
    def __init__(self, depth, width, num_classes, layout="meliketoy"):
        super().__init__()
        meliketoy = layout == "meliketoy"
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=meliketoy)
        self.groups = nn.ModuleList()
        d_input = 16
        for group in range(3):
            d_output = 16 * width << group
            blocks = nn.Sequential()
            for block in range((depth - 4) // 6):
                stride = 2 if group > 0 and block == 0 else 1
                blocks.append(Block(d_input, d_output, stride, meliketoy))
                d_input = d_output
            self.groups.append(blocks)
        self.norm = nn.BatchNorm2d(d_input, momentum=0.9 if meliketoy else 0.1)
        self.linear = nn.Linear(d_input, num_classes)

    def sites(self, x):
        """All activations that a penalty can be put on, by name."""
        x = self.conv1(x)
        sites = {"conv1": x}
        for number, group in enumerate(self.groups, 1):
            x = sites[f"group{number}"] = group(x)
        x = sites["relu"] = F.relu(self.norm(x))
        x = sites["pooled"] = x.mean((2, 3))
        sites["logits"] = self.linear(x)
        return sites

    def forward(self, x):
        """Logits, and the pooled features before them."""
        sites = self.sites(x)
        return sites["logits"], sites["pooled"]
