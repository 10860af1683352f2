"""Real pre-trained models that need no Hub, each from a package on PyPI and checked by digest."""
