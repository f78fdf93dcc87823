"""Networks that surgery must not hurt, and what must be the same afterwards."""

import copy
import pickle

import torch
from torch import nn
from torch.nn import functional


class Spelled(nn.Module):
    """Four layers whose activations are functions, methods, in place and not."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(5)])
        self.scale = nn.Parameter(torch.full((6,), 0.5))
        self.register_buffer("shift", torch.linspace(-1, 1, 6))

    def forward(self, x):
        x = torch.tanh(self.layers[0](x))
        x = functional.relu(self.layers[1](x), inplace=True) * self.scale
        x = self.layers[2](x).sigmoid() + self.shift
        x = self.layers[3](x)
        x.relu_()
        return self.layers[4](x)


class SharedActivation(nn.Module):
    """One module of an activation, used between all layers and at the output."""

    def __init__(self, *, at_output=True):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.act, self.at_output = nn.Sigmoid(), at_output

    def forward(self, x):
        x = self.act(self.second(self.act(self.first(x))))
        x = self.third(x)
        return self.act(x) if self.at_output else x


class Tied(nn.Module):
    """Two layers that share a weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.act = nn.Tanh()

    def forward(self, x):
        return self.third(self.act(self.second(torch.tanh(self.first(x)))))


class Branching(nn.Module):
    """What it does depends on its values and on its mode, so that no trace is true to it."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        x = functional.dropout(x, 0.3, training=self.training)
        if float(x.sum().detach()) > 1e9:
            return x
        return self.third(self.second(x).tanh_())


class WithinTransformer(nn.Module):
    """A transformer encoder, post-norm, between a stem and a head."""

    def __init__(self, *, norm_first=False, norm=False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.1, batch_first=True, norm_first=norm_first)
        last = nn.LayerNorm(6) if norm else None
        self.stem = nn.Linear(6, 6)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=last, enable_nested_tensor=False)
        self.head = nn.Linear(6, 6)

    def forward(self, x):
        return self.head(self.encoder(self.stem(x)[:, None, :])[:, 0])


def noted(_module, _inputs, output):
    """A hook of the user's: it changes what goes on."""
    return output * 1.5


def mlp():
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))


def in_place():
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Linear(6, 6), nn.ReLU(inplace=True))


def one_object_twice():
    act = nn.Tanh()
    return nn.Sequential(nn.Linear(6, 6), act, nn.Linear(6, 6), act, nn.Linear(6, 6))


def hooked():
    model = mlp()
    model[1].register_forward_hook(noted)
    model[2].register_forward_hook(noted)
    return model


def conv():
    parts = [nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
    more = [nn.Conv2d(4, 4, 3, padding=1), nn.Sigmoid(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(24, 6)]
    return nn.Sequential(*parts, *more)


def partly_frozen():
    model = mlp()
    model[0].requires_grad_(False)
    model[2].eval()
    return model


def double():
    return mlp().double()


NETWORKS = {
    "mlp": mlp,
    "in place": in_place,
    "one object twice": one_object_twice,
    "hooked": hooked,
    "conv": conv,
    "frozen": partly_frozen,
    "double": double,
    "spelled": Spelled,
    "shared": SharedActivation,
    "tied": Tied,
    "branching": Branching,
    "transformer": WithinTransformer,
}


def built(name, seed=0):
    """Build a network from a seed."""
    torch.manual_seed(seed)
    return NETWORKS[name]()


def batch_for(model, rows=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 6, generator=generator).to(next(model.parameters()).dtype)


def behaviour(model, x):
    """Outputs in the mode that it is in and in evaluation, gradients, and what it keeps."""
    modes = [module.training for module in model.modules()]
    torch.manual_seed(3)
    out = model(x)
    model.zero_grad()
    out.square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    with torch.no_grad():
        later = model(x)
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return {"output": out.detach(), "later": later, **{f"d {k}": v for k, v in gradients.items()}, **state}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def assert_unchanged(operated, given, x):
    """Bit for bit the same network, and still one after it is copied and pickled."""
    assert described(operated) == described(given)
    assert_same_parameters(operated, given)
    copied = copy.deepcopy(operated)
    thawed = pickle.loads(pickle.dumps(operated))  # noqa: S301 - the test's own bytes
    expected = behaviour(given, x)
    for model in (operated, copied, thawed):
        assert same(behaviour(model, x), expected)


def described(model):
    named = model.named_modules(remove_duplicate=False)
    return [(name, type(module), module.training, len(module._forward_hooks)) for name, module in named]


def assert_same_parameters(operated, given):
    """Names, values, types, frozen or not, and which names share a parameter: as they were; others may be new."""
    theirs = dict(operated.named_parameters(remove_duplicate=False))
    tied = {}
    for name, parameter in given.named_parameters(remove_duplicate=False):
        other = theirs[name]
        assert torch.equal(other, parameter)
        assert (other.dtype, other.device) == (parameter.dtype, parameter.device)
        assert other.requires_grad == parameter.requires_grad
        assert tied.setdefault(id(parameter), other) is other
    assert set(given.state_dict()) <= set(operated.state_dict())
