"""Memory that calls take beside their results, as Python counts it."""

import tracemalloc


def peak(call):
    """Return by how many bytes memory outside of torch grows at most, beside the result."""
    tracemalloc.start()
    try:
        result = call()
        return tracemalloc.get_traced_memory()[1] - result.nbytes
    finally:
        tracemalloc.stop()
