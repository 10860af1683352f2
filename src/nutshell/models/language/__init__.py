"""Language models: the thin wrappers, which architectures there are, a checkpoint's or a new one."""
