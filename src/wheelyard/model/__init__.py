"""The words of the field as frozen values, parsed once."""
