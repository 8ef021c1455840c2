"""The models that come with the package, each in its folder, and the scripts that trained them."""
