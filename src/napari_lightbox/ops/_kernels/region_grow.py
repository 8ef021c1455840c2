"""Region growing by the running mean, compiled; the same steps in the same order as the plain loop it takes over from.

Importing this module needs numba.
"""

import numba


@numba.njit(nogil=True)
def grow(values, closed, queue, head, tail, total, count, steps, threshold, limit, most):
    """Take up to `limit` voxels from the queue and add their neighbours that fit.

    Parameters
    ----------
    values : ndarray
        Grey values with a margin, flat.
    closed : ndarray of uint8
        0 where a voxel may still join, flat; set to 1 when it does.
    queue : ndarray of int64
        Flat indices; those from `head` to `tail` wait. There must be room for ``limit * len(steps)`` more.
    head, tail, total, count : int, int, float, int
        State: where the queue begins and ends, sum and number of the region's grey values.
    steps : ndarray of int64
        Flat distance of each neighbour.
    threshold : float
        Largest distance from the mean, exclusive.
    limit : int
        Number of voxels to take.
    most : int
        Number of voxels at which the region stops.

    Returns
    -------
    tuple
        The new head, tail, total and count, and whether the region was stopped: then nothing waits any more.
    """
    end = head + limit
    while head < tail and head < end:
        here = queue[head]
        head += 1
        for step in steps:
            there = here + step
            if closed[there] == 0:
                value = float(values[there])
                if abs(total / count - value) < threshold:
                    if count == most:
                        return tail, tail, total, count, True
                    closed[there] = 1
                    queue[tail] = there
                    tail += 1
                    total += value
                    count += 1
    return head, tail, total, count, False
