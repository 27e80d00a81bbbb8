"""Operating-system packages as values: what archives, packages and kernels say of themselves."""
