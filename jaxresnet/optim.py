"""The optimizers, each with the definition that PyTorch gives it.

To add one, write its transformation of the gradient and an entry of OPTIMIZERS; the weight decay
before it and the learning rate after it, with its schedule, are common to all.

As in the published runs (torch.optim with weight_decay), the decay is added to the gradient of
every parameter before anything else sees it; it is not the decoupled decay of AdamW. L2 as a term
of the loss has the same gradient.

Where definitions are known to differ between libraries, these follow PyTorch's:
- Adagrad: Optax starts the sum of squares at 0.1 and puts epsilon inside the root; here the sum
  starts at 0 and epsilon (1e-10) is added to the root.
- Adadelta: the update is scaled by the learning rate, as in PyTorch; the paper has none. Epsilon
  (1e-6) stands inside both roots in Optax too.
- Adam: epsilon (1e-8) is added to the root after the bias correction, Optax's eps_root is 0.
- SGD: PyTorch's dampening is 0, so the first step's momentum is the gradient itself.
`python -m experiments.checks.fidelity --parts optimizers` compares them with torch.optim.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxresnet.options import look_up, one_of, option, unpublished

# Of the published runs, with every optimizer: it is kuangliu/pytorch-cifar's.
PUBLISHED_LEARNING_RATE = 0.1


def scale_by_adagrad(eps: float = 1e-10) -> optax.GradientTransformation:
    """g / (sqrt(sum of g^2) + eps), as torch.optim.Adagrad has it (Duchi et al., 2011).

    optax.scale_by_rss puts eps inside the root and starts its sum at 0.1; PyTorch starts at 0.
    """

    def init(params: optax.Params) -> optax.ScaleByRssState:
        return optax.ScaleByRssState(jax.tree.map(jnp.zeros_like, params))

    def update(updates, state, params=None):
        del params
        sums = jax.tree.map(lambda s, g: s + jnp.square(g), state.sum_of_squares, updates)
        scaled = jax.tree.map(lambda s, g: g / (jnp.sqrt(s) + eps), sums, updates)
        return scaled, optax.ScaleByRssState(sums)

    return optax.GradientTransformation(init, update)


class Optimizer(NamedTuple):
    """An entry of OPTIMIZERS.

    Attributes:
      title: its name in tables.
      usual_learning_rate: what people use it with, as a rule torch.optim's default.
      transform: makes the transformation of the gradient.
      uses_momentum: whether OptimizerOptions.momentum matters to it.
    """

    title: str
    usual_learning_rate: float
    transform: Callable[["OptimizerOptions"], optax.GradientTransformation]
    uses_momentum: bool = False


OPTIMIZERS: dict[str, Optimizer] = {
    # 0.1 is not torch.optim's default (0.001) but the rate of pytorch-cifar and the ResNet paper.
    "sgd": Optimizer("SGD", 0.1, lambda options: optax.trace(options.momentum), uses_momentum=True),
    "nesterov": Optimizer(
        "SGD, Nesterov",
        0.1,
        lambda options: optax.trace(options.momentum, nesterov=True),
        uses_momentum=True,
    ),
    "adagrad": Optimizer("Adagrad", 0.01, lambda _: scale_by_adagrad()),
    "adadelta": Optimizer("Adadelta", 1.0, lambda _: optax.scale_by_adadelta(rho=0.9, eps=1e-6)),
    "adam": Optimizer("Adam", 0.001, lambda _: optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)),
}


def step_schedule(rate: float, steps: int, warmup: int) -> optax.Schedule:
    """A tenth after each of 1/3, 2/3 and 8/9 of the training: 30, 60 and 80 of 90 epochs.

    As Goyal et al. (2017, "Accurate, Large Minibatch SGD", section 5.1).
    """
    drops = (math.ceil(steps * share) for share in map(Fraction, ("1/3", "2/3", "8/9")))
    return optax.piecewise_constant_schedule(rate, dict.fromkeys((d - warmup for d in drops), 0.1))


def cosine_schedule(rate: float, steps: int, warmup: int) -> optax.Schedule:
    """Half a cosine to 0 at the end (Loshchilov and Hutter, 2016, "SGDR", without restarts)."""
    return optax.cosine_decay_schedule(rate, max(steps - warmup, 1))


# (rate, steps of the training, of them the warm-up's) -> the rate, or a function to it from the
# number of steps since the warm-up.
SCHEDULES: dict[str, Callable[[float, int, int], optax.ScalarOrSchedule]] = {
    "constant": lambda rate, steps, warmup: rate,
    "step": step_schedule,
    "cosine": cosine_schedule,
}


@dataclass(frozen=True)
class OptimizerOptions:
    """The update of the parameters."""

    optimizer: Annotated[str, one_of(OPTIMIZERS, "optimizer")] = unpublished(
        "sgd", affects="result"
    )
    """Its definition is PyTorch's."""
    protocol: Literal["published", "defaults"] = option(
        "published", affects="result", published=True, says=""
    )
    """published: learning rate 0.1 for every optimizer. defaults: each one's usual rate."""
    learning_rate: float | None = option(
        None, affects="result", published=(None, PUBLISHED_LEARNING_RATE), says="", above=0
    )
    """Overrides the protocol's rate. None: the protocol's."""
    schedule: Annotated[str, one_of(SCHEDULES, "schedule")] = option(
        "constant", affects="result", published=True, says="{} learning-rate schedule"
    )
    """How the learning rate falls. step: to a tenth at 1/3, 2/3 and 8/9 of the epochs. cosine: to 0
    at the end, by half a cosine."""
    warmup_epochs: float = option(
        0.0, affects="result", published=True, says="{:g}-epoch warm-up", at_least=0
    )
    """So many of the epochs, in which the learning rate first rises linearly to its full value."""
    momentum: float = option(0.9, affects="result", published=True, says="", at_least=0, below=1)
    """For the optimizers that use it."""
    weight_decay: float = option(
        5e-4, affects="result", published=True, says="weight decay {:g}", always=True, at_least=0
    )
    """Times the parameter, added to its gradient, for all parameters."""
    l1: float = option(0.0, affects="result", published=True, says="L1 {:g}", at_least=0)
    """Times the sum of the parameters' magnitudes, added to the loss that is minimised; the loss in
    logs and tables is without it."""
    l2: float = option(0.0, affects="result", published=True, says="L2 {:g}", at_least=0)
    """Half of it times the sum of the parameters' squares, added likewise: the same as so much more
    weight decay."""
    no_decay_on_norm: bool = option(
        False, affects="result", published=True, says="no decay of norms and biases"
    )
    """Leave normalisation layers' parameters and all biases out of weight decay, L1 and L2."""

    @property
    def entry(self) -> Optimizer:
        """Of OPTIMIZERS.

        Raises:
          UserError: it has no such optimizer.
        """
        return look_up(OPTIMIZERS, self.optimizer, "optimizer")

    @property
    def rate(self) -> float:
        """The learning rate, which the schedule starts from when the warm-up is over."""
        if self.learning_rate is not None:
            return self.learning_rate
        published = self.protocol == "published"
        return PUBLISHED_LEARNING_RATE if published else self.entry.usual_learning_rate

    @property
    def penalty(self) -> Callable[[optax.Params], jax.Array] | None:
        """The terms of the loss that depend on the parameters alone, () float32; None without."""
        if not (self.l1 or self.l2):
            return None

        def penalty(params: optax.Params) -> jax.Array:
            decayed = [param for param in jax.tree.leaves(params) if self._is_decayed(param)]
            absolute, squares = optax.tree.norm(decayed, 1), optax.tree.norm(decayed, squared=True)
            return self.l1 * absolute + self.l2 / 2 * squares

        return penalty

    def learning_rate_at(self, epochs: int, steps_per_epoch: int) -> optax.ScalarOrSchedule:
        """The rate, or a function from the step to it, by the schedule and the warm-up.

        The first rate after a warm-up of n steps is the schedule's; they rise to it by equal
        amounts from 1/(n + 1) of it.

        Raises:
          UserError: there is no such schedule.
        """
        steps, warmup = epochs * steps_per_epoch, round(self.warmup_epochs * steps_per_epoch)
        rates = look_up(SCHEDULES, self.schedule, "schedule")(self.rate, steps, warmup)
        if not warmup:
            return rates

        def rising(step: jax.typing.ArrayLike) -> jax.Array:  # optax.linear_schedule is float32
            return self.rate * (jnp.asarray(step) + 1.0) / (warmup + 1)

        later = rates if callable(rates) else optax.constant_schedule(rates)
        return optax.join_schedules([rising, later], [warmup])

    def create(self, epochs: int, steps_per_epoch: int) -> optax.GradientTransformation:
        """The whole update: weight decay, then the optimizer, then minus the learning rate.

        Args:
          epochs, steps_per_epoch: of the training, which a schedule may depend on.

        Raises:
          UserError: there is no such optimizer or schedule.
        """
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay, partial(jax.tree.map, self._is_decayed)),
            self.entry.transform(self),
            optax.scale_by_learning_rate(self.learning_rate_at(epochs, steps_per_epoch)),
        )

    def _is_decayed(self, param: jax.Array) -> bool:
        """Norms and biases have one axis, kernels more."""
        return param.ndim > 1 or not self.no_decay_on_norm
