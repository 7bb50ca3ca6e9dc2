"""Write the table of the data sets into README.md, from the recipes: ``python write_table.py``."""

from __future__ import annotations

from pathlib import Path

from explain.cli.data import readers
from explain.data.recipes import Recipe, read_recipe

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEADER = ("name", "what", "readers", "recipe", "protocols and commands", "size", "licence")


def how(recipe: Recipe) -> str:
    """Return how a set gets to a machine."""
    if recipe.archives:
        parts = ", ".join(f"**{part.part}**" if part.part in recipe.default else part.part for part in recipe.archives)
        return f"`explain data prepare`: {parts}"
    return recipe.made or "by hand: see the card"


def table() -> str:
    """Return the table, a line per folder."""
    recipes = [read_recipe(card.parent) for card in sorted(HERE.glob("*/card.md"))]
    rows = [HEADER, ("---",) * len(HEADER)]
    for recipe in recipes:
        name = f"[`{recipe.name}`]({recipe.name}/card.md)"
        own = ", ".join(readers(recipe))
        rows.append((name, recipe.title, own, how(recipe), ", ".join(recipe.protocols), recipe.size, recipe.licence))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    path = HERE / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
