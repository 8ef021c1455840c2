"""What happens to layers after they were made: painting is noted, contrast sliders get their range."""

from napari.layers import Labels

from .layers import KEY, layer_record, plain, widen_contrast


def note_edits(viewer) -> None:
    """Note with every Labels layer of a viewer, now and later, when its voxels are painted or replaced."""
    viewer = plain(viewer)
    for layer in viewer.layers:
        _note_edits_of(layer)
    viewer.layers.events.inserted.connect(_on_inserted)


def _on_inserted(event) -> None:
    _note_edits_of(event.value)
    if layer_record(event.value) is not None:
        widen_contrast(event.value)


def _note_edits_of(layer) -> None:
    if isinstance(layer, Labels):
        for event in (layer.events.paint, layer.events.labels_update, layer.events.data):
            event.connect(_on_edited)


def _on_edited(event) -> None:
    layer = event.source
    record = layer.metadata.get(KEY)
    if isinstance(record, dict) and not record.get("edited"):
        # What was known of the voxels as they were made holds no longer.
        meta = {key: value for key, value in record["meta"].items() if "hash" not in key}
        layer.metadata[KEY] = {**record, "meta": meta, "edited": True}
