"""The operations that torch can do as well, on a graphics card: the only room here that imports it."""
