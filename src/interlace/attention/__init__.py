"""Who sees whom (patterns), how it is computed (kernels), and where tokens are (positions)."""
