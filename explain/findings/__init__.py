"""Findings: what discovery and effects return, and their run folders."""
