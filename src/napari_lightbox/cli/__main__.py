"""``python -m napari_lightbox.cli`` is `lightbox`."""

import sys

from . import main

sys.exit(main())
