"""Style transfer of pictures and of sounds."""
