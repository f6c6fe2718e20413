"""Using a trained network, without what training it needs."""
