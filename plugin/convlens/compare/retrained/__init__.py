"""A retrained model beside the one before: what the training lost, and what it changed."""
