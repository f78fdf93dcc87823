"""Small networks of every shape that a probe must read; each entry gives model, loss and batch."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


def classify(model, batch):
    x, y = batch
    return functional.cross_entropy(model(x), y)


def vectors(width=16, samples=8, classes=4):
    return torch.randn(samples, width), torch.randint(0, classes, (samples,))


def images(size=8, samples=6, classes=4):
    return torch.randn(samples, 3, size, size), torch.randint(0, classes, (samples,))


def tokens(samples=4, length=6, words=20):
    return torch.randint(0, words, (samples, length)), torch.randint(0, words, (samples, length))


def mlp(depth=5, width=16, classes=4, *, act=nn.Tanh, bias=True, start=16):
    layers = [nn.Linear(start, width, bias=bias), act()]
    for _ in range(depth - 2):
        layers += [nn.Linear(width, width, bias=bias), act()]
    return nn.Sequential(*layers, nn.Linear(width, classes))


class Vgg(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.AvgPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(32, 16), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(16, 4))

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


class PostBlock(nn.Module):
    def __init__(self, before, after, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Conv2d(before, after, 1, stride) if before != after else None

    def forward(self, x):
        h = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        h += x if self.down is None else self.down(x)
        return self.relu(h)


class PreBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)

    def forward(self, x):
        return x + self.conv2(functional.relu(self.bn2(self.conv1(functional.relu(self.bn1(x))))))


class ResNet(nn.Module):
    def __init__(self, *, pre):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(
            *([PreBlock(8) for _ in range(3)] if pre else [PostBlock(8, 8), PostBlock(8, 12, 2), PostBlock(12, 12)])
        )
        self.head = nn.Linear(8 if pre else 12, 4)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class DenseNet(nn.Module):
    """Every layer reads all layers before it, as torchvision's does: no single cuts inside."""

    def __init__(self, layers=4):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(4 * (i + 1), 4, 3, padding=1) for i in range(layers))
        self.head = nn.Linear(4 * (layers + 1), 4)

    def forward(self, x):
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(functional.relu(torch.cat(features, 1))))
        return self.head(torch.cat(features, 1).mean((2, 3)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc1, self.enc2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.middle = nn.Conv2d(8, 8, 3, padding=1)
        self.dec2, self.dec1 = nn.Conv2d(16, 4, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        self.out = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        e1 = functional.relu(self.enc1(x))
        e2 = functional.relu(self.enc2(functional.max_pool2d(e1, 2)))
        m = functional.relu(self.middle(functional.max_pool2d(e2, 2)))
        d2 = functional.relu(self.dec2(torch.cat([functional.interpolate(m, scale_factor=2.0), e2], 1)))
        d1 = functional.relu(self.dec1(torch.cat([functional.interpolate(d2, scale_factor=2.0), e1], 1)))
        return self.out(d1)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (z.view(b, t, self.heads, -1).transpose(1, 2) for z in self.qkv(x).chunk(3, -1))
        h = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(h.transpose(1, 2).reshape(b, t, d))


class GptBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln1, self.attn, self.ln2 = nn.LayerNorm(width), Attention(width, heads), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Gpt(nn.Module):
    """Tied embeddings: the way to the shared weight passes by every block."""

    def __init__(self, words=20, width=16, *, heads=2, blocks=3, length=8, checkpointed=None):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(words, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(GptBlock(width, heads) for _ in range(blocks))
        self.ln_f, self.lm_head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.wte.weight
        self.checkpointed = checkpointed

    def forward(self, idx):
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        for block in self.blocks:
            x = block(x) if self.checkpointed is None else checkpoint(block, x, use_reentrant=self.checkpointed)
        return self.lm_head(self.ln_f(x))


def next_word(model, batch):
    x, y = batch
    return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


class Encoder(nn.Module):
    def __init__(self, *, pre, layers=3):
        super().__init__()
        self.embed = nn.Linear(16, 12)
        layer = nn.TransformerEncoderLayer(12, 2, 24, dropout=0.0, batch_first=True, norm_first=pre)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x)).mean(1))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = mlp(3, classes=8), mlp(3, classes=8)
        self.head = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, left, right):
        return self.head(torch.cat([self.left(left), self.right(right)], 1))


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.low, self.high = mlp(3, classes=16), mlp(3)
        self.side = nn.Linear(16, 4)

    def forward(self, x):
        h = torch.relu(self.low(x))
        return self.high(h), self.side(h)


def two_losses(model, batch):
    x, y = batch
    main, side = model(x)
    return functional.cross_entropy(main, y) + 0.3 * functional.cross_entropy(side, y)


class Functional(nn.Module):
    """Nothing but parameters: the loss computes everything."""

    def __init__(self, depth=4, width=16):
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(width, width) / width**0.5) for _ in range(depth))
        self.readout = nn.Parameter(torch.randn(width, 1) / width**0.5)


def functional_loss(model, batch):
    x, y = batch
    for weight in model.weights:
        x = torch.tanh(x @ weight)
    return ((x @ model.readout).squeeze(1) - y).square().mean()


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.tower = mlp(4, classes=8)

    def forward(self, a, b):
        return (self.tower(a) - self.tower(b)).square().sum(1)


class Tower(nn.Module):
    def __init__(self, depth=4, width=16):
        super().__init__()
        self.core = nn.Linear(width, width)
        self.head = nn.Linear(width, 4)
        self.depth = depth

    def forward(self, x):
        for _ in range(self.depth):
            x = torch.tanh(self.core(x))
        return self.head(x)


class FromDict(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp(3)

    def forward(self, *, features, scale):
        return {"logits": self.net(features * scale)}


def dict_loss(model, batch):
    out = model(features=batch["x"], scale=batch["scale"])
    return functional.cross_entropy(out["logits"], batch["y"])


def dict_batch():
    x, y = vectors()
    return {"x": x, "scale": torch.ones(1), "y": y}


def frozen():
    net = mlp(5)
    for parameter in net[2].parameters():
        parameter.requires_grad_(False)
    return net


def normed():
    net = mlp(4)
    for place in (0, 2, 4):
        net[place] = nn.utils.parametrizations.weight_norm(net[place])
    return net


def pair_loss(model, batch):
    return functional.cross_entropy(model(batch[0], batch[1]), batch[2])


def match_loss(model, batch):
    return functional.binary_cross_entropy_with_logits(1 - model(batch[0], batch[1]), batch[2])


def segment(model, batch):
    return functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1])


NETWORKS = {
    "plain": lambda: (mlp(), classify, vectors()),
    "vgg": lambda: (Vgg(), classify, images()),
    "pre-activation": lambda: (ResNet(pre=True), classify, images()),
    "post-activation": lambda: (ResNet(pre=False), classify, images()),
    "dense": lambda: (DenseNet(), classify, images()),
    "unet": lambda: (UNet(), segment, (torch.randn(4, 3, 8, 8), torch.rand(4, 1, 8, 8).round())),
    "gpt": lambda: (Gpt(), next_word, tokens()),
    "checkpointed": lambda: (Gpt(checkpointed=False), next_word, tokens()),
    "re-entrant": lambda: (Gpt(checkpointed=True), next_word, tokens()),
    "pre-norm": lambda: (Encoder(pre=True), classify, (torch.randn(4, 5, 16), torch.randint(0, 4, (4,)))),
    "post-norm": lambda: (Encoder(pre=False), classify, (torch.randn(4, 5, 16), torch.randint(0, 4, (4,)))),
    "two-inputs": lambda: (TwoInputs(), pair_loss, (torch.randn(8, 16), *vectors())),
    "auxiliary": lambda: (Auxiliary(), two_losses, vectors()),
    "functional": lambda: (Functional(), functional_loss, (torch.randn(8, 16), torch.randn(8))),
    "siamese": lambda: (Siamese(), match_loss, (torch.randn(8, 16), torch.randn(8, 16), torch.rand(8).round())),
    "reused": lambda: (Tower(), classify, vectors()),
    "dict": lambda: (FromDict(), dict_loss, dict_batch()),
    "frozen": lambda: (frozen(), classify, vectors()),
    "weight-norm": lambda: (normed(), classify, vectors()),
}
