INSERT INTO hapax_recipe (recipe, text) SELECT coalesce(max(recipe), 0) + 1, ?1 FROM hapax_recipe RETURNING recipe
