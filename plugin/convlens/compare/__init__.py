"""Two models side by side: a converted, rebuilt or upgraded model and what it was made from."""
