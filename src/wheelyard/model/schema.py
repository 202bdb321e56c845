"""The JSON schema of recipe and matrix files, from the types that decode them."""

from __future__ import annotations

import msgspec

from wheelyard.model.recipe_file import MatrixFile, RecipeFile


def file_schemas() -> dict[str, object]:
    """Return the schemas by the kind of file."""
    return {
        "matrix": msgspec.json.schema(MatrixFile),
        "recipe": msgspec.json.schema(RecipeFile),
    }
