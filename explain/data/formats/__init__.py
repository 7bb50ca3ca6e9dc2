"""Readers of the field's published localization formats, one module each; `catalog` knows them all."""
