"""Where an operation computes: on the processor, or with torch on a graphics card.

torch is imported here only when another device than the processor is asked for.
"""

from ..errors import InputError, need


def torch_device(name: str):
    """Return the torch device of a name, or None where our own code on the processor is to do the work.

    Parameters
    ----------
    name : str
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises
    ------
    InputError
        If the name is another, or there is no such card.
    MissingPart
        If torch is not installed.

    Examples
    --------
    >>> torch_device("cpu") is None
    True
    """
    if name == "cpu":
        return None
    kind, _, number = str(name).partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise InputError(f"device {name!r} is unknown: use 'cpu', 'cuda' or 'cuda:1'")
    torch = need("torch", "Computing on a graphics card")
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= cards:
        found = "torch finds none" if not cards else f"torch finds {cards}, counted from 0"
        raise InputError(f"device {name!r} is not there ({found}): use 'cpu'")
    return torch.device(name)
