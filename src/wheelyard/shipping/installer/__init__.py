"""Installs a bundle where there is nothing but Python 3.9: imports nothing beside this folder."""
