"""What a CUDA device wants beside the network: memory that it reads by itself, and as many windows as it has room for.

Only called where a network lies on a CUDA device. NVIDIA, CUDA C++ Best Practices Guide, "Pinned Memory": memory that
the system may not move is copied at twice the speed or more, and without the processor.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..progress import Cancelled

# Share of what is free that windows may take; sums of all classes lie on the device, too.
_SHARE = 0.4
# More windows at once than this keep no GPU busier, and a cancel waits for all of them.
MOST = 16


def windows_at_once(ask: Callable[[torch.Tensor], object], shape: Sequence[int], device: str, most: int = MOST) -> int:
    r"""Return how many windows go through a network together: measured with a single one that is empty.

    Parameters
    ----------
    ask : callable
        Takes a tensor (n, channels, \*size) on the device.
    shape : sequence of int
        Of a window: channels and size.
    device : str
        ``"cuda"`` or ``"cuda:1"``.
    most : int
        Upper limit.

    Returns
    -------
    int
        At least 1; 1 where even a single window does not fit or the network fails, which whoever runs it deals with.
    """
    free = torch.cuda.mem_get_info(device)[0]
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        answer = ask(torch.zeros((1, *shape), device=device))
        torch.cuda.synchronize(device)
    except Cancelled:
        raise
    except Exception:  # whatever a network says; it is told of the first window
        torch.cuda.empty_cache()
        return 1
    del answer
    needed = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    return max(1, min(most, int(_SHARE * free / max(1, needed))))


class Lane:
    """The way of windows to a device and of answers back, through memory that stays where it is.

    Parameters
    ----------
    device : str
        A CUDA device.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._in = self._out = torch.empty(0)

    def send(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return windows of the same shape as one tensor on the device."""
        # The copy before this one may still be under way.
        self._wait()
        self._in = self._room(self._in, len(parts) * parts[0].numel())
        stacked = self._in[: len(parts) * parts[0].numel()].view(len(parts), *parts[0].shape)
        torch.stack(list(parts), out=stacked)
        return self._copied(stacked)

    def fetch(self, answer: torch.Tensor) -> torch.Tensor:
        """Return an answer in the computer's memory; it holds until the next one is fetched."""
        self._out = self._room(self._out, answer.numel())
        return self._out[: answer.numel()].view(answer.shape).copy_(answer)

    def _room(self, buffer: torch.Tensor, count: int) -> torch.Tensor:
        return buffer if buffer.numel() >= count else self._pinned(count)

    def _pinned(self, count: int) -> torch.Tensor:
        try:
            return torch.empty(count, dtype=torch.float32, pin_memory=True)
        except RuntimeError:  # the system keeps no more pages in place: slower, and as right
            return torch.empty(count, dtype=torch.float32)

    def _copied(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device, non_blocking=True)

    def _wait(self) -> None:
        torch.cuda.current_stream(self.device).synchronize()


def arrange(network: nn.Module, *, channels_last: bool) -> None:
    """Put the weights of convolutions in the order of channels last, or back; no value changes.

    Half precision convolutions of NVIDIA's tensor cores read features in that order, and cuDNN would otherwise turn
    them before and after each layer.
    """
    for weight in network.parameters():
        order = _order(weight, channels_last)
        if order is not None and not weight.is_contiguous(memory_format=order):
            # Outside of inference mode, or no gradient could go through it any more: explanations want them.
            with torch.inference_mode(False):
                weight.data = weight.data.contiguous(memory_format=order)


def arranged(x: torch.Tensor) -> torch.Tensor:
    """Return windows (n, channels, y, x) or (n, channels, z, y, x) in the order of channels last."""
    return x.contiguous(memory_format=_order(x, channels_last=True))


def _order(tensor: torch.Tensor, channels_last: bool) -> torch.memory_format | None:
    if tensor.ndim not in (4, 5) or math.prod(tensor.shape[2:]) == 1:
        return None
    if not channels_last:
        return torch.contiguous_format
    return torch.channels_last if tensor.ndim == 4 else torch.channels_last_3d
