"""What happens to layers after they were made: edits are noted, contrast sliders get their range."""

from napari.layers import Image, Labels

from .layers import KEY, layer_record, plain, widen_contrast


def note_edits(viewer) -> None:
    """Note with every layer of a viewer, now and later, when its voxels are painted or replaced by others.

    Every dock calls this; a second call changes nothing.
    """
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
    elif isinstance(layer, Image):
        layer.events.data.connect(_on_edited)


def _on_edited(event) -> None:
    layer = event.source
    record = layer.metadata.get(KEY)
    if isinstance(record, dict) and not record.get("edited"):
        # Replaying what was known to be done would no longer give these voxels.
        layer.metadata[KEY] = {**record, "edited": True}
