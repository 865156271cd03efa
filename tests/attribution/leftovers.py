"""What an analysis could leave behind: in a model, and in the state of the process."""

import random

import numpy as np
import rich.style  # noqa: F401  # as it is loaded it draws one of Python's random numbers
import torch

from kanlens.model._network import KAN

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def state(model: KAN) -> dict[str, object]:
    """Everything an analysis could leave behind, as values that can be compared."""
    kept: dict[str, object] = {
        "torch's draws": torch.get_rng_state().tolist(),
        "Python's draws": random.getstate(),
        "NumPy's draws": [str(part) for part in np.random.get_state()],  # noqa: NPY002
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
    }
    for name, module in model.named_modules():
        hooks = [len(getattr(module, kind)) for kind in HOOKS]
        kept[f"module {name}"] = (module.training, hooks)
    for name, tensor in model.state_dict().items():
        kept[f"value {name}"] = (tensor.tolist(), str(tensor.dtype))
    for name, parameter in model.named_parameters():
        grad = None if parameter.grad is None else parameter.grad.tolist()
        kept[f"parameter {name}"] = (id(parameter), parameter.requires_grad, grad)
    return kept


def changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """Names of what is not as it was: pytest would take seconds to write such states out."""
    names = sorted(before.keys() | after.keys())
    return [name for name in names if before.get(name, ()) != after.get(name, ())]
