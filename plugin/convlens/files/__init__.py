"""Archives, `.npz` files, model formats and atomic writing."""
