"""The optimizers of the experiments, each with the definition that PyTorch gives it.

To add one, write a function from OptimizerOptions to an Optax transformation of the gradient
and register it; the weight decay before it and the learning rate after it are common to all:

    @register("rmsprop", label="RMSprop", usual_learning_rate=0.01)
    def _rmsprop(options):
        return optax.scale_by_rms(decay=0.99, eps=1e-8, eps_in_sqrt=False)

As in the published runs (torch.optim with weight_decay), the decay is added to the gradient of
every parameter before anything else sees it; it is not the decoupled decay of AdamW.

Where definitions are known to differ between libraries, these follow PyTorch's:
- Adagrad: Optax starts the sum of squares at 0.1 and puts epsilon inside the root; here the sum
  starts at 0 and epsilon (1e-10) is added to the root.
- Adadelta: the update is scaled by the learning rate, as in PyTorch; the paper has none. Epsilon
  (1e-6) stands inside both roots in Optax too.
- Adam: epsilon (1e-8) is added to the root after the bias correction, Optax's eps_root is 0.
- SGD: PyTorch's dampening is 0, so the first step's momentum is the gradient itself.
`python -m experiments.fidelity --parts optimizers` compares them with torch.optim.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from jaxresnet.errors import UserError


@dataclass(frozen=True)
class OptimizerOptions:
    """What the command line sets. Optimizers without momentum ignore it."""

    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4


@dataclass(frozen=True)
class Optimizer:
    """A registry entry.

    label: how tables call it. usual_learning_rate: what people use it with, as a rule
    torch.optim's default. uses_momentum: whether OptimizerOptions.momentum matters to it.
    """

    label: str
    usual_learning_rate: float
    uses_momentum: bool
    transform: Callable[[OptimizerOptions], optax.GradientTransformation]


_REGISTRY: dict[str, Optimizer] = {}


def register(name: str, *, label: str, usual_learning_rate: float, uses_momentum: bool = False):
    """Decorator that adds an optimizer to the registry under `name`."""

    def add(transform: Callable[[OptimizerOptions], optax.GradientTransformation]):
        _REGISTRY[name] = Optimizer(label, usual_learning_rate, uses_momentum, transform)
        return transform

    return add


def optimizer_names() -> tuple[str, ...]:
    """The names in the registry, in the order of registration."""
    return tuple(_REGISTRY)


def get_optimizer(name: str) -> Optimizer:
    """The registry's entry.

    Raises:
      UserError: no optimizer has that name.
    """
    if name not in _REGISTRY:
        raise UserError(f"unknown optimizer {name!r}: choose from {', '.join(_REGISTRY)}")
    return _REGISTRY[name]


def create_optimizer(name: str, options: OptimizerOptions) -> optax.GradientTransformation:
    """The whole update: weight decay, then the optimizer, then minus the learning rate.

    Raises:
      UserError: no optimizer has that name.
    """
    return optax.chain(
        optax.add_decayed_weights(options.weight_decay),
        get_optimizer(name).transform(options),
        optax.scale_by_learning_rate(options.learning_rate),
    )


# 0.1 is not torch.optim's default (0.001) but the rate of pytorch-cifar and of the ResNet paper.
@register("sgd", label="SGD", usual_learning_rate=0.1, uses_momentum=True)
def _sgd(options: OptimizerOptions) -> optax.GradientTransformation:
    return optax.trace(decay=options.momentum)


@register("nesterov", label="SGD, Nesterov", usual_learning_rate=0.1, uses_momentum=True)
def _nesterov(options: OptimizerOptions) -> optax.GradientTransformation:
    return optax.trace(decay=options.momentum, nesterov=True)


@register("adagrad", label="Adagrad", usual_learning_rate=0.01)
def _adagrad(_: OptimizerOptions) -> optax.GradientTransformation:
    return scale_by_adagrad()


@register("adadelta", label="Adadelta", usual_learning_rate=1.0)
def _adadelta(_: OptimizerOptions) -> optax.GradientTransformation:
    return optax.scale_by_adadelta(rho=0.9, eps=1e-6)


@register("adam", label="Adam", usual_learning_rate=0.001)
def _adam(_: OptimizerOptions) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)


def scale_by_adagrad(eps: float = 1e-10) -> optax.GradientTransformation:
    """g / (sqrt(sum of g^2) + eps), as torch.optim.Adagrad has it (Duchi et al., 2011).

    optax.scale_by_rss puts eps inside the root and starts its sum at 0.1; PyTorch starts at 0.
    """

    def init(params: optax.Params) -> optax.OptState:
        return optax.ScaleByRssState(sum_of_squares=jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        del params
        sums = jax.tree.map(lambda s, g: s + jnp.square(g), state.sum_of_squares, updates)
        scaled = jax.tree.map(lambda s, g: g / (jnp.sqrt(s) + eps), sums, updates)
        return scaled, optax.ScaleByRssState(sum_of_squares=sums)

    return optax.GradientTransformation(init, update)
