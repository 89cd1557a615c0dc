"""Plain networks and transforms: tensors in, tensors out, nothing of audio, rates or files."""
