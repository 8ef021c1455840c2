"""Steps of a history that looking into a model leaves, and what is needed to run them again."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..apply import input_names, record_input
from ..errors import InputError
from ..volume import Volume
from .card import Card
from .ensembles import listed
from .loaders import load as load_model
from .prediction import model_name, model_sha256
from .torch_import import import_torch


def step_of(
    operation: str,
    model: Any,
    card: Card,
    parameters: Mapping[str, Any],
    images: Sequence[Volume] = (),
    region: Volume | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Return a step: the model and its choices, with further channels and the region as volumes it asks for."""
    from .. import __version__

    models = listed(model)
    names = [model_name(one) for one in models]
    cards = [getattr(one, "card", card) for one in models]
    written = {"model": names[0] if len(names) == 1 else None if None in names else names, **parameters}
    taken = input_names(images[0].history) if images else set()
    if region is not None:
        written["region"] = record_input(region, taken)
    for number, channel in enumerate(images[1:], start=2):
        written[f"channel_{number}"] = record_input(channel, taken)
    step = {
        "operation": operation,
        "parameters": written,
        "plane": None,
        "model": {
            "name": " + ".join(one.name for one in cards),
            "version": " + ".join(one.version for one in cards),
            "sha256": model_sha256(models),
        },
        "inputs": [one.name for one in images],
        "version": __version__,
    }
    step |= {"grid": images[0].grid.as_dict()} if images else {}
    return step if device is None else {**step, "device": device}


def opened(step: Mapping[str, Any], values: dict[str, Any]) -> tuple[Any, list[Volume]]:
    """Return the model of a step, or the list of them, and the further channels; both are taken out of `values`.

    Raises
    ------
    InputError
        If the model was a Python function, or its weights are no longer the same.
    """
    name = values.pop("model", None)
    if not name:
        raise InputError(
            f"the step {step['operation']!r} was done with a Python function, which a recipe cannot hold: run it again"
        )
    models = [load_model(one) for one in listed(name)]
    recorded, found = step.get("model", {}).get("sha256"), model_sha256(models)
    if recorded and found != recorded:
        raise InputError(
            f"the weights of model {models[0].name!r} are not those the recipe was made with (SHA-256 "
            f"{found[:12]}..., recorded {recorded[:12]}...): take that version of the model"
        )
    further = [values.pop(k) for k in sorted((k for k in values if k.startswith("channel_")), key=lambda k: int(k[8:]))]
    torch = import_torch()
    if str(values.get("device", "auto")).startswith("cuda") and not torch.cuda.is_available():
        values["device"] = "auto"
    return (models if len(models) > 1 else models[0]), further
