"""Archives, `.npz` files and atomic writing."""
