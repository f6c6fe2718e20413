"""Training, on PyTorch Lightning."""
