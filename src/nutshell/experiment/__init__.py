"""A YAML file becomes a checked experiment."""
