"""Readers of published probe sets: photos whose pixels are labelled with concepts, one small file per format."""
